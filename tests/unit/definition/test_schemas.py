"""Schemas parse, store and read back; what would not come back is refused."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    PlainSerializer,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from workflow_engine.definition.schemas import NoConfig, NoInput, Schema
from workflow_engine.errors import DefinitionError, InvalidDataError, PayloadError
from workflow_engine.payload import decode_json


class Row(BaseModel):
    name: str
    score: float = 0.0


class Table(BaseModel):
    rows: list[Row] = []
    extra: Any = None


class Wider(Row):
    note: str = "only in the subclass"


class Color(Enum):
    RED = "red"


class Typed(TypedDict):
    a: int


class Pair(NamedTuple):
    left: int
    right: str


@dataclass
class Point:
    x: int
    when: date


class Aliased(BaseModel):
    first: int = Field(alias="second")
    second: int = Field(alias="first")
    third: int = Field(validation_alias="drei", serialization_alias="trois", default=3)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    when: datetime
    ids: tuple[int, ...]


class WithComputed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @computed_field
    def double(self) -> int:
        return self.a * 2


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


class SpelledNaN(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    score: float
    other: str | None = None


class Hidden(BaseModel):
    kept: int
    dropped: int = Field(default=0, exclude=True)


class Handle:
    """An object that JSON does not know."""


class Handled(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    handle: Handle


class Converted(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    handle: Annotated[Handle, PlainSerializer(lambda _: "handle")]

    @field_validator("handle", mode="before")
    @classmethod
    def read_handle(cls, value: object) -> object:
        return Handle() if value == "handle" else value


class Failing(BaseModel):
    a: int

    @field_serializer("a")
    def write(self, value: int) -> int:
        raise ValueError("no way to write it")


def problems(tp: Any, value: object) -> tuple[str, ...]:
    with pytest.raises(InvalidDataError) as caught:
        Schema.of(tp).accept(value, what="output")
    return caught.value.problems


def refusal(tp: Any, value: object, *, max_bytes: int | None = None) -> str:
    with pytest.raises(PayloadError) as caught:
        Schema.of(tp).accept(value, what="output", max_bytes=max_bytes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tp", "value"),
    [
        (Table, Table(rows=[Row(name="a", score=-0.5)], extra={"deep": [1, None, 2.5]})),
        (list[Row], [Row(name="a")]),
        (Row | None, None),
        (bool, False),
        (int, 0),
        (int, 10**100),
        (str, ""),
        (str, "\x00\ud800"),
        (type(None), None),
        (dict[int, str], {1: "a", 2: "b"}),
        (set[int], {3, 1, 2}),
        (frozenset[str], frozenset({"a"})),
        (tuple[int, str], (1, "a")),
        (deque[int], deque([1, 2])),
        (Pair, Pair(1, "a")),
        (Typed, {"a": 1}),
        (Point, Point(1, date(2026, 1, 2))),
        (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
        (timedelta, timedelta(days=-1, microseconds=7)),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=5)),
        (Path, Path("a/b")),
        (Color, Color.RED),
        (bytes, b"text"),
        (Literal["a", 1], 1),
        (HttpUrl, HttpUrl("https://example.org/x")),
        (int | str, "1"),
        (Json[list[int]], "[1,2]"),
        (Aliased, Aliased(first=1, second=2, drei=4)),
        (Strict, Strict(when=datetime(2026, 1, 1, tzinfo=UTC), ids=(1, 2))),
        (WithComputed, WithComputed(a=2)),
        (SpelledNaN, SpelledNaN(score=math.inf)),
        (Any, {"a": [1, "x", None]}),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_is_accepted_comes_back_as_it_was(tp: Any, value: Any) -> None:
    schema = Schema.of(tp)

    accepted, text = schema.accept(value, what="output")

    assert text.isascii()
    assert schema.decode(text, what="output") == accepted
    assert schema.encode(accepted, what="output") == text
    assert accepted == schema.parse(value, what="output")


@given(st.builds(Table, rows=st.lists(st.builds(Row, score=st.floats(allow_nan=False, allow_infinity=False)))))
def test_every_table_comes_back_as_it_was(table: Table) -> None:
    schema = Schema.of(Table)

    assert schema.decode(schema.encode(table, what="output"), what="output") == table


def test_input_is_parsed_into_its_type() -> None:
    accepted, text = Schema.of(Table).accept({"rows": [{"name": "a", "score": "1.5"}]}, what="input")

    assert accepted == Table(rows=[Row(name="a", score=1.5)])
    assert decode_json(text) == {"rows": [{"name": "a", "score": 1.5}], "extra": None}


def test_aliases_are_for_callers_and_names_are_for_the_record() -> None:
    accepted, text = Schema.of(Aliased).accept({"second": 1, "first": 2, "drei": 4}, what="input")

    assert (accepted.first, accepted.second, accepted.third) == (1, 2, 4)
    assert decode_json(text) == {"first": 1, "second": 2, "third": 4}


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


def test_a_change_that_can_be_parsed_is_stored_parsed() -> None:
    row = Row(name="a")
    row.score = "2.5"  # type: ignore[assignment] # the mistake

    accepted, text = Schema.of(Row).accept(row, what="output")

    assert accepted.score == 2.5
    assert decode_json(text) == {"name": "a", "score": 2.5}


def test_fields_of_a_subclass_are_left_out_for_everybody() -> None:
    accepted, text = Schema.of(Row).accept(Wider(name="a"), what="output")

    assert type(accepted) is Row
    assert "note" not in text


def test_excluded_fields_come_back_with_their_default() -> None:
    accepted, text = Schema.of(Hidden).accept(Hidden(kept=1, dropped=5), what="output")

    assert accepted == Hidden(kept=1, dropped=0)
    assert decode_json(text) == {"kept": 1}


def test_accepted_values_are_copies() -> None:
    value = {"rows": [], "extra": [1]}

    accepted, _ = Schema.of(Table).accept(value, what="output")
    value["extra"].append(2)

    assert accepted.extra == [1]


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


def test_a_model_that_spells_nan_out_keeps_it() -> None:
    accepted, _ = Schema.of(SpelledNaN).accept(SpelledNaN(score=math.nan), what="output")

    assert math.isnan(accepted.score)


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


def test_an_untyped_tuple_comes_back_as_a_list() -> None:
    accepted, _ = Schema.of(Table).accept(Table(extra=(1, (2,))), what="output")

    assert accepted.extra == [1, [2]]


def test_secrets_are_refused_and_not_shown() -> None:
    message = refusal(Secretive, Secretive(user="u", password=SecretStr("hunter2")))

    assert message == "Cannot store output: password: a secret cannot be stored; store a reference to it"


def test_an_object_without_json_form_is_refused_with_its_path() -> None:
    message = refusal(list[Handled], [Handled(handle=Handle())])

    assert message.startswith("Cannot store output: [0].handle: Handle is not a JSON value")


def test_an_object_with_a_serializer_and_a_validator_is_accepted() -> None:
    accepted, text = Schema.of(Converted).accept(Converted(handle=Handle()), what="output")

    assert isinstance(accepted.handle, Handle)
    assert decode_json(text) == {"handle": "handle"}


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


def test_two_hundred_levels_are_accepted() -> None:
    value: Any = []
    for _ in range(198):
        value = [value]

    accepted, _ = Schema.of(Table).accept(Table(extra=value), what="output")

    assert accepted.extra == value


def test_the_size_limit_is_checked_on_the_text() -> None:
    assert refusal(str, "x" * 2000, max_bytes=1024) == "output is 2,002 bytes of JSON; at most 1,024 are allowed"
    assert refusal(str, "\ud800" * 2000, max_bytes=1024) == "output is 12,002 bytes of JSON; at most 1,024 are allowed"


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
    assert problems(Account, {"api_key": "weak"}) == ("Value error, the key *** is ***",)


def test_a_token_limit_is_no_secret() -> None:
    assert problems(Account, {"max_tokens": "x"}) == (
        "max_tokens: Input should be a valid integer, unable to parse string as an integer",
    )


def test_no_input_ignores_what_it_is_given() -> None:
    accepted, text = Schema.of(NoInput).accept({"a": 1}, what="input")

    assert accepted == NoInput()
    assert text == "{}"


def test_no_config_refuses_every_field() -> None:
    assert problems(NoConfig, {"a": 1}) == ("a: Extra inputs are not permitted",)


@pytest.mark.parametrize(
    ("tp", "name"),
    [
        (Row, "Row"),
        (list[int], "list[int]"),
        (type(None), "None"),
        (int | None, "int | None"),
        (Any, "Any"),
        (dict[str, Any], "dict[str, Any]"),
    ],
    ids=str,
)
def test_a_schema_is_named_after_its_type(tp: Any, name: str) -> None:
    assert Schema.of(tp).name == name
    assert repr(Schema.of(tp)) == f"Schema({name})"


def test_a_type_that_pydantic_does_not_know_is_refused() -> None:
    with pytest.raises(DefinitionError, match="Handle cannot be used as a schema"):
        Schema.of(Handle)


def test_the_json_schema_uses_field_names() -> None:
    assert set(Schema.of(Aliased).json_schema()["properties"]) == {"first", "second", "third"}


def test_a_type_without_json_schema_has_an_empty_one() -> None:
    assert Schema.of(Handled).json_schema() == {}
