"""Schemas refuse what does not fit and what would not come back, with its path and without secrets."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    model_validator,
)

from workflow_engine.errors import DefinitionError, InvalidDataError, PayloadError
from workflow_engine.payloads.schemas import Schema


class Row(BaseModel):
    name: str
    score: float = 0.0


class Table(BaseModel):
    rows: list[Row] = []
    extra: Any = None


class Color(Enum):
    RED = "red"


class Secretive(BaseModel):
    user: str
    password: SecretStr


class Account(BaseModel):
    user: str = ""
    api_key: str = Field(default="", max_length=5)
    max_tokens: int = 0
    rows: list[Row] = []

    @model_validator(mode="after")
    def refuse_weak_key(self) -> Account:
        if self.api_key == "weak":
            raise ValueError(f"the key {self.api_key} is weak")
        return self


class Handle:
    """An object that JSON does not know."""


class Handled(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    handle: Handle


class Failing(BaseModel):
    a: int

    @field_serializer("a")
    def write(self, value: int) -> int:
        raise ValueError("no way to write it")


def problems(tp: Any, value: object) -> tuple[str, ...]:
    with pytest.raises(InvalidDataError) as caught:
        Schema.of(tp).store(value, what="output")
    return caught.value.problems


def refusal(tp: Any, value: object, *, max_bytes: int | None = None) -> str:
    with pytest.raises(PayloadError) as caught:
        Schema.of(tp).store(value, what="output", max_bytes=max_bytes)
    return str(caught.value)


def test_every_rejected_field_is_named_with_its_path() -> None:
    assert problems(Table, {"rows": [{"score": "high"}, 3]}) == (
        "rows[0].name: Field required",
        "rows[0].score: Input should be a valid number, unable to parse string as a number",
        "rows[1]: Input should be a valid dictionary or instance of Row",
    )


def test_a_problem_of_the_whole_value_has_no_path() -> None:
    assert problems(int, "x") == ("Input should be a valid integer, unable to parse string as an integer",)


def test_a_changed_instance_does_not_slip_through() -> None:
    row = Row(name="a")
    row.name = 3  # type: ignore[assignment] # the mistake
    table = Table(rows=[row])

    assert problems(Table, table) == ("rows[0].name: Input should be a valid string",)
    assert problems(list[Row], [row]) == ("[0].name: Input should be a valid string",)
    with pytest.raises(InvalidDataError, match=r"rows\[0\].name"):
        Schema.of(Table).parse(table, what="output")
    with pytest.raises(InvalidDataError, match=r"rows\[0\].name"):
        Schema.of(Table).encode(table, what="output")


def test_an_instance_made_without_validation_does_not_slip_through() -> None:
    assert problems(Row, Row.model_construct(score=1.0)) == ("name: Field required",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Row(name="a", score=math.nan), "Cannot store output: score: nan has no JSON form"),
        (Row(name="a", score=-math.inf), "Cannot store output: score: -inf has no JSON form"),
    ],
    ids=repr,
)
def test_nan_in_a_typed_field_is_refused(value: Row, message: str) -> None:
    assert refusal(Row, value) == message


def test_nan_never_becomes_null() -> None:
    assert refusal(float | None, math.nan) == "Cannot store output: nan has no JSON form"
    assert refusal(Table, Table(extra={"a": [1, math.inf]})) == (
        "Cannot store output: extra.a[1]: inf has no JSON form"
    )
    assert refusal(dict[str, float | None], {"a": None, "b": math.nan}) == (
        "Cannot store output: b: nan has no JSON form"
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "extra: datetime comes back as str"),
        ({"a": {1, 2}}, "extra.a: set comes back as list"),
        ([b"x"], "extra[0]: bytes comes back as str"),
        ({"a": Decimal(1)}, "extra.a: Decimal comes back as str"),
        (Color.RED, "extra: Color comes back as str"),
        ({1: "x"}, "extra: the key 1 (int) does not come back"),
        ({2: "x", "2": "y"}, "extra: the key 2 (int) does not come back"),
        (SecretStr("hunter2"), "extra: a secret cannot be stored; store a reference to it"),
        ({"h": [Handle()]}, "extra.h[0]: Handle is not a JSON value"),
        ("\ud83d\ude00", "extra: the str comes back changed"),
        ([10**4300], "extra[0]: the integer has more than 4,300 digits"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else ascii(value)[:30],
)
def test_what_an_untyped_field_would_lose_is_refused(extra: Any, message: str) -> None:
    assert refusal(Table, Table(extra=extra)).startswith(f"Cannot store output: {message}")


def test_secrets_are_refused_and_not_shown() -> None:
    message = refusal(Secretive, Secretive(user="u", password=SecretStr("hunter2")))

    assert message == "Cannot store output: password: a secret cannot be stored; store a reference to it"


def test_an_object_without_json_form_is_refused_with_its_path() -> None:
    message = refusal(list[Handled], [Handled(handle=Handle())])

    assert message.startswith("Cannot store output: [0].handle: Handle is not a JSON value")


def test_bytes_that_are_no_text_are_refused() -> None:
    assert refusal(dict[str, bytes], {"a": b"\xff"}).startswith("Cannot store output: a: bytes is not a JSON value")


def test_a_serializer_that_raises_is_reported() -> None:
    assert "no way to write it" in refusal(Failing, Failing(a=1))


def test_a_value_that_contains_itself_is_refused_with_its_path() -> None:
    table = Table(extra={})
    table.extra["again"] = [table.extra]

    message = refusal(Table, table)

    assert message.startswith("Cannot store output: extra.again[0]")
    assert message.endswith(": the value contains itself")


@pytest.mark.parametrize("levels", [200, 240, 300])
def test_values_nested_too_deeply_are_refused(levels: int) -> None:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]

    assert "nested deeper than 200 levels" in refusal(Table, Table(extra=value))


def test_text_that_does_not_fit_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidDataError, match="Invalid input: name: Input should be a valid string"):
        Schema.of(Row).decode('{"name": 3}', what="input")


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(PayloadError, match="Stored text is not JSON"):
        Schema.of(Row).decode('{"name"', what="input")


def test_messages_hide_the_values_of_secret_fields() -> None:
    assert problems(Account, {"api_key": "hunter2"}) == (
        "api_key: the value is refused (string_too_long); not shown because of its name",
    )


def test_messages_of_a_whole_model_hide_its_secrets() -> None:
    assert problems(Account, {"api_key": "weak"}) == ("Value error, the key [redacted] is [redacted]",)


def test_a_token_limit_is_no_secret() -> None:
    assert problems(Account, {"max_tokens": "x"}) == (
        "max_tokens: Input should be a valid integer, unable to parse string as an integer",
    )


def test_a_type_that_pydantic_does_not_know_is_refused() -> None:
    with pytest.raises(DefinitionError, match="Handle cannot be used as a schema"):
        Schema.of(Handle)
