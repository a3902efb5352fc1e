"""Which fields of a model were set is kept, in white space that no other reader sees."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    Field,
    RootModel,
)

from workflow_engine.errors import InvalidDataError, PayloadError
from workflow_engine.payloads.schemas import Schema
from workflow_engine.payloads.text import decode_json


class Row(BaseModel):
    name: str = ""
    score: float | None = None


class Anything(BaseModel):
    value: Any = None
    thing: object = None


class Patch(BaseModel):
    name: str | None = None
    phone: str | None = None
    retries: int = 3
    rows: list[Row] = []
    by_name: dict[str, Row] = {}
    made: UUID = Field(default_factory=uuid4)


def kept(tp: Any, value: Any) -> Any:
    schema = Schema.of(tp)
    text = schema.store(value, what="output")
    back = schema.decode(text, what="output")
    assert schema.encode(back, what="output") == text
    return back


def test_which_fields_were_set_is_kept_at_every_place() -> None:
    patch = Patch(name="x", phone=None, rows=[Row(name="a"), Row(score=None)], by_name={"k": Row(name="b")})

    back = kept(Patch, patch)

    assert back.model_dump(exclude_unset=True) == patch.model_dump(exclude_unset=True)
    assert back.made == patch.made
    assert back.retries == 3
    assert kept(RootModel[list[Row]], RootModel[list[Row]]([Row(name="a")])).root[0].model_fields_set == {"name"}
    assert kept(dict[int, Row], {1: Row(name="a"), 2: Row()})[1].model_fields_set == {"name"}


def test_the_text_says_the_value_of_a_field_that_was_not_set() -> None:
    text = Schema.of(Patch).store(Patch(name="x"), what="output")

    assert {"name": "x", "phone": None, "retries": 3, "rows": [], "by_name": {}}.items() <= decode_json(text).items()


def test_a_value_stays_as_it_was_recorded_when_the_default_changes() -> None:
    class Old(BaseModel):
        currency: str = "EUR"

    class New(BaseModel):
        currency: str = "USD"

    back = Schema.of(New).decode(Schema.of(Old).store(Old(), what="output"), what="output")

    assert back.currency == "EUR"
    assert back.model_fields_set == set()


def test_a_field_that_another_schema_requires_is_set_for_it() -> None:
    class Requiring(BaseModel):
        name: str
        score: float | None

    back = Schema.of(Requiring).decode(Schema.of(Row).store(Row(), what="output"), what="output")

    assert back.model_fields_set == {"name", "score"}


def test_strings_that_look_like_a_mark_are_kept() -> None:
    value = Anything(value={"\x000:a": "\x000:b", "\t": '\t"'})

    assert kept(Anything, value).value == value.value
    assert kept(Anything, value).model_fields_set == {"value"}


@given(st.dictionaries(st.sampled_from(["name", "phone", "retries"]), st.none() | st.text() | st.integers()))
def test_marks_add_nothing_but_white_space(values: dict[str, Any]) -> None:
    patch = Patch.model_construct(values.keys() & {"name"}, made=UUID(int=0), **{k: "x" for k in values if k == "name"})

    text = Schema.of(Patch).store(patch, what="output")

    plain = Patch.model_construct(set(Patch.model_fields), **vars(patch))
    assert text.replace("\t", "") == Schema.of(Patch).store(plain, what="output")


def test_a_value_that_does_not_fit_another_schema_is_refused_and_not_replaced_by_a_default() -> None:
    class Defaulting(BaseModel):
        name: str = ""
        score: float = 5.0

    text = Schema.of(Row).store(Row(), what="output")

    with pytest.raises(InvalidDataError, match="score: Input should be a valid number"):
        Schema.of(Defaulting).decode(text, what="input")


class Sloppy(BaseModel):
    name: str = ""
    count: int = None  # type: ignore[assignment] # as people write it
    made: UUID = Field(default_factory=uuid4)


def test_a_default_that_does_not_fit_its_type_is_refused_where_another_default_would_come_back_changed() -> None:
    with pytest.raises(PayloadError, match="count: its JSON cannot be read back"):
        Schema.of(Sloppy).store(Sloppy(), what="output")
    assert kept(Sloppy, Sloppy(made=UUID(int=1))).count is None
