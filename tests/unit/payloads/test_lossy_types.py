"""Only a type that can lose something pays for a comparison; a type that loses everything is refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    computed_field,
    field_serializer,
)

from workflow_engine.errors import DefinitionError
from workflow_engine.payloads.schemas import Schema


class Row(BaseModel):
    name: str = ""
    score: float | None = None


class Hidden(BaseModel):
    kept: int = 0
    dropped: int = Field(default=0, exclude=True)


class Private(BaseModel):
    kept: int = 0
    _seen: list[int] = PrivateAttr(default_factory=list)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    kept: int = 0


class Price(BaseModel):
    amount: float

    @field_serializer("amount")
    def shown(self, value: float) -> float:
        return round(value, 2)


@dataclass
class Tally:
    seen: int
    total: int = field(init=False, default=0)
    half: float = field(init=False)

    def __post_init__(self) -> None:
        self.half = self.seen / 2


class Coded(BaseModel):
    code: Annotated[int, PlainSerializer(lambda value: value + 1)]
    name: Annotated[str, AfterValidator(str.strip), BeforeValidator(lambda value: value)] = ""


class Letter(Enum):
    A = "a"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


def test_a_field_that_no_stored_value_could_have_is_refused_at_once() -> None:
    class Lost(BaseModel):
        secret: str = Field(exclude=True)

    @dataclass
    class Opened:
        path: dataclasses.InitVar[str]

    with pytest.raises(DefinitionError, match=r"Lost cannot be .* secret is excluded from dumps .* has no default"):
        Schema.of(Lost)
    with pytest.raises(DefinitionError, match="secret is excluded"):
        Schema.of(list[Lost] | None)
    with pytest.raises(DefinitionError, match="path is an InitVar without a default"):
        Schema.of(Opened)


class WithComputed(BaseModel):
    a: int

    @computed_field
    def double(self) -> int:
        return self.a * 2


@pytest.mark.parametrize(
    ("tp", "is_compared"),
    [
        (WithComputed, False),
        (list[dict[str, tuple[int, str]]], False),
        (Pet, False),
        (int | str | None, False),
        (Letter, False),
        (Row, True),
        (int | Decimal, True),
        (datetime, True),
        (dict[str, Any], True),
        (Hidden, True),
        (Private, True),
        (Open, True),
        (Price, True),
        (Tally, True),
        (Coded, True),
    ],
    ids=repr,
)
def test_only_what_can_lose_something_is_compared(tp: Any, *, is_compared: bool) -> None:
    assert Schema.of(tp)._risks.may_lose is is_compared


LOSSLESS = {
    int: st.integers(),
    str: st.text(st.characters(codec="utf-8")),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    UUID: st.uuids(),
    Letter: st.sampled_from(Letter),
    Literal["a", 1, True] | None: st.sampled_from(["a", 1, True, None]),
    dict[int, str]: st.dictionaries(st.integers(), st.text(st.characters(codec="utf-8"))),
    frozenset[int]: st.frozensets(st.integers()),
    tuple[bool, int | str | None]: st.tuples(st.booleans(), st.integers() | st.booleans().map(str) | st.none()),
}


@pytest.mark.parametrize("tp", LOSSLESS, ids=str)
def test_what_is_not_compared_has_lost_nothing(tp: Any) -> None:
    schema = Schema.of(tp)
    assert not schema._risks.may_lose

    @given(LOSSLESS[tp])
    def check(value: object) -> None:
        back = schema.decode(schema.store(value, what="output"), what="output")
        assert repr(back) == repr(value) or back == value
        assert type(back) is type(value)

    check()
