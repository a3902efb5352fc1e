"""Schemas parse, store and read back: what is accepted comes back as it was."""

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
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    PlainSerializer,
    computed_field,
    field_validator,
)
from typing_extensions import TypedDict

from workflow_engine.errors import InvalidDataError, PayloadError
from workflow_engine.payloads.schemas import NoConfig, NoInput, Schema
from workflow_engine.payloads.text import decode_json


class Row(BaseModel):
    name: str
    score: float = 0.0


class Table(BaseModel):
    rows: list[Row] = []
    extra: Any = None


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


class SpelledNaN(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    score: float
    other: str | None = None


class Handle:
    """An object that JSON does not know."""


class Handled(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    handle: Handle


class Raw(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    handle: Annotated[
        Handle,
        PlainSerializer(lambda _: "handle", when_used="json"),
        BeforeValidator(lambda value: Handle() if value == "handle" else value),
    ]


class Converted(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    handle: Annotated[Handle, PlainSerializer(lambda _: "handle")]

    @field_validator("handle", mode="before")
    @classmethod
    def read_handle(cls, value: object) -> object:
        return Handle() if value == "handle" else value


def problems(tp: Any, value: object) -> tuple[str, ...]:
    with pytest.raises(InvalidDataError) as caught:
        Schema.of(tp).store(value, what="output")
    return caught.value.problems


def refusal(tp: Any, value: object, *, max_bytes: int | None = None) -> str:
    with pytest.raises(PayloadError) as caught:
        Schema.of(tp).store(value, what="output", max_bytes=max_bytes)
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

    text = schema.store(value, what="output")
    accepted = schema.decode(text, what="output")

    assert text.isascii()
    assert schema.encode(accepted, what="output") == text
    assert accepted == schema.parse(value, what="output")


@given(st.builds(Table, rows=st.lists(st.builds(Row, score=st.floats(allow_nan=False, allow_infinity=False)))))
def test_every_table_comes_back_as_it_was(table: Table) -> None:
    schema = Schema.of(Table)

    assert schema.decode(schema.encode(table, what="output"), what="output") == table


def test_input_is_parsed_into_its_type() -> None:
    text = Schema.of(Table).store({"rows": [{"name": "a", "score": "1.5"}]}, what="input")
    accepted = Schema.of(Table).decode(text, what="input")

    assert accepted == Table(rows=[Row(name="a", score=1.5)])
    assert decode_json(text) == {"rows": [{"name": "a", "score": 1.5}], "extra": None}


def test_aliases_are_for_callers_and_names_are_for_the_record() -> None:
    text = Schema.of(Aliased).store({"second": 1, "first": 2, "drei": 4}, what="input")
    accepted = Schema.of(Aliased).decode(text, what="input")

    assert (accepted.first, accepted.second, accepted.third) == (1, 2, 4)
    assert decode_json(text) == {"first": 1, "second": 2, "third": 4}


def test_a_change_that_can_be_parsed_is_stored_parsed() -> None:
    row = Row(name="a")
    row.score = "2.5"  # type: ignore[assignment] # the mistake

    text = Schema.of(Row).store(row, what="output")
    accepted = Schema.of(Row).decode(text, what="output")

    assert accepted.score == 2.5
    assert decode_json(text) == {"name": "a", "score": 2.5}


def test_accepted_values_are_copies() -> None:
    value = {"rows": [], "extra": [1]}

    stored = Schema.of(Table).store(value, what="output")
    accepted = Schema.of(Table).decode(stored, what="output")
    value["extra"].append(2)

    assert accepted.extra == [1]


def test_a_model_that_spells_nan_out_keeps_it() -> None:
    stored = Schema.of(SpelledNaN).store(SpelledNaN(score=math.nan), what="output")
    accepted = Schema.of(SpelledNaN).decode(stored, what="output")

    assert math.isnan(accepted.score)


def test_an_untyped_tuple_comes_back_as_a_list() -> None:
    stored = Schema.of(Table).store(Table(extra=(1, (2,))), what="output")
    accepted = Schema.of(Table).decode(stored, what="output")

    assert accepted.extra == [1, [2]]


def test_objects_that_cannot_be_compared_count_as_equal() -> None:
    text = Schema.of(Raw).store(Raw(handle=Handle()), what="output")
    accepted = Schema.of(Raw).decode(text, what="output")

    assert isinstance(accepted.handle, Handle)
    assert decode_json(text) == {"handle": "handle"}


def test_an_object_with_a_serializer_and_a_validator_is_accepted() -> None:
    text = Schema.of(Converted).store(Converted(handle=Handle()), what="output")
    accepted = Schema.of(Converted).decode(text, what="output")

    assert isinstance(accepted.handle, Handle)
    assert decode_json(text) == {"handle": "handle"}


def test_two_hundred_levels_are_accepted() -> None:
    value: Any = []
    for _ in range(198):
        value = [value]

    stored = Schema.of(Table).store(Table(extra=value), what="output")
    accepted = Schema.of(Table).decode(stored, what="output")

    assert accepted.extra == value


def test_the_size_limit_is_checked_on_the_text() -> None:
    assert refusal(str, "x" * 2000, max_bytes=1024) == "output is 2,002 bytes of JSON; at most 1,024 are allowed"
    assert refusal(str, "\ud800" * 2000, max_bytes=1024) == "output is 12,002 bytes of JSON; at most 1,024 are allowed"


def test_no_input_ignores_what_it_is_given() -> None:
    text = Schema.of(NoInput).store({"a": 1}, what="input")
    accepted = Schema.of(NoInput).decode(text, what="input")

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


def test_the_json_schema_uses_field_names() -> None:
    assert set(Schema.of(Aliased).json_schema()["properties"]) == {"first", "second", "third"}


def test_a_type_without_json_schema_has_an_empty_one() -> None:
    assert Schema.of(Handled).json_schema() == {}
