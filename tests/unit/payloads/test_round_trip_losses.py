"""What a dump does not show is kept, or refused with its path; nothing changes in silence."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SerializeAsAny,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from workflow_engine.errors import PayloadError
from workflow_engine.payloads.schemas import Schema

BERLIN = ZoneInfo("Europe/Berlin")
T = TypeVar("T")


class Row(BaseModel):
    name: str = ""
    score: float | None = None


class Wider(Row):
    note: str = "only in the subclass"


class Same(BaseModel):
    name: str = ""
    score: float | None = None


class Price(BaseModel):
    amount: float

    @field_serializer("amount")
    def shown(self, value: float) -> float:
        return round(value, 2)


class Whole(BaseModel):
    amount: float

    @model_serializer
    def shown(self) -> dict[str, float]:
        return {"amount": round(self.amount)}


class Hidden(BaseModel):
    kept: int = 0
    dropped: int = Field(default=0, exclude=True)


class HiddenNone(BaseModel):
    kept: int = 0
    dropped: int | None = Field(default=3, exclude_if=lambda value: value is None)


class Private(BaseModel):
    kept: int = 0
    _seen: list[int] = PrivateAttr(default_factory=list)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    kept: int = 0


class Anything(BaseModel):
    value: Any = None
    thing: object = None


class Either(BaseModel):
    value: Row | Same
    choice: Annotated[int | bool | Decimal | float | str, Field(union_mode="smart")] = 0


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Box(BaseModel, Generic[T]):
    value: T


class Base(BaseModel):
    row: Row


class Duck(BaseModel):
    row: SerializeAsAny[Row]


class Pair(NamedTuple):
    left: int
    right: int


class Entry(TypedDict, total=False):
    name: str
    row: Row


class Level(IntEnum):
    HIGH = 1


class Word(StrEnum):
    A = "a"


class Letter(Enum):
    A = "a"


class Coded(BaseModel):
    code: Annotated[int, PlainSerializer(lambda value: value + 1)]
    name: Annotated[str, AfterValidator(str.strip), BeforeValidator(lambda value: value)] = ""


class Growing(BaseModel):
    text: Annotated[str, AfterValidator(lambda value: f"{value}!")]


@dataclass
class Tally:
    seen: int
    total: int = field(init=False, default=0)
    half: float = field(init=False)

    def __post_init__(self) -> None:
        self.half = self.seen / 2


@dataclass
class Loose:
    seen: int = field(compare=False)
    shown: Annotated[float, PlainSerializer(round)] = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Counted:
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", self.count + 1)


@pydantic_dataclass(frozen=True)
class Doubled:
    count: int
    double: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "double", self.count * 2)


class Money:
    """Compared by identity, as classes are that say nothing else."""

    def __init__(self, amount: float) -> None:
        self.amount = amount


class Wallet(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    money: Annotated[
        Money,
        PlainSerializer(lambda money: round(money.amount, 1), return_type=float),
        BeforeValidator(lambda value: value if isinstance(value, Money) else Money(value)),
    ]


class Sloppy(BaseModel):
    name: str
    count: int = None  # type: ignore[assignment] # as people write it


def refusal(tp: Any, value: object) -> str:
    with pytest.raises(PayloadError) as caught:
        Schema.of(tp).store(value, what="output")
    return str(caught.value).removeprefix("Cannot store output: ")


def kept(tp: Any, value: Any) -> Any:
    schema = Schema.of(tp)
    text = schema.store(value, what="output")
    back = schema.decode(text, what="output")
    assert schema.encode(back, what="output") == text
    return back


def with_private(*seen: int) -> Private:
    made = Private()
    made._seen.extend(seen)
    return made


def tally(**values: Any) -> Tally:
    made = Tally(seen=1)
    vars(made).update(values)
    return made


@pytest.mark.parametrize(
    ("tp", "value", "message"),
    [
        (Price, Price(amount=0.00499), "amount: the float comes back changed"),
        (list[Price], [Price(amount=1), Price(amount=0.001)], "[1].amount: the float comes back changed"),
        (Whole, Whole(amount=0.4), "amount: the float comes back changed"),
        (Coded, Coded(code=1), "code: the int comes back changed"),
        (Growing, Growing(text="a"), "text: the str comes back changed"),
        (Hidden, Hidden(dropped=5), "dropped: is excluded from dumps (exclude=True)"),
        (HiddenNone, HiddenNone(dropped=None), "dropped: NoneType comes back as int"),
        (Private, with_private(1), "_seen: a private attribute is not stored"),
        (Tally, tally(total=9), "total: no validator sets a field with init=False"),
        (Loose, Loose(seen=1, shown=0.4), "shown: the float comes back changed"),
        (Counted, Counted(1), "count: the int comes back changed"),
        (Wallet, Wallet(money=Money(0.44)), "money.amount: the float comes back changed"),
        (Either, Either(value=Same()), "value: Same comes back as Row"),
        (list[Row | Same], [Row(), Same()], "[1]: Same comes back as Row"),
        (Either, Either(value=Row(), choice="1"), "choice: str comes back as Decimal"),
        (Row, Wider(), "Wider comes back as Row"),
        (Base, Base(row=Wider()), "row: Wider comes back as Row"),
        (Duck, Duck(row=Wider()), "row: Wider comes back as Row"),
        (Entry, {"row": Wider()}, "row: Wider comes back as Row"),
        (Anything, Anything(value=Row()), "value: Row comes back as dict"),
        (Anything, Anything(thing=[Row()]), "thing[0]: Row comes back as dict"),
        (Anything, Anything(value={"a": Tally(1)}), "value.a: Tally comes back as dict"),
        (Anything, Anything(value=Level.HIGH), "value: Level comes back as int"),
        (Anything, Anything(value=Word.A), "value: Word comes back as str"),
        (Anything, Anything(thing=Letter.A), "thing: Letter comes back as str"),
        (Anything, Anything(value={Word.A: 1}), "value: the key <Word.A: 'a'> (Word) does not come back"),
        (Anything, Anything(value=Pair(1, 2)), "value: Pair comes back as list"),
        (dict[str, Any], {"a": Row()}, "a: Row comes back as dict"),
        (Open, Open.model_validate({"more": Row()}), "more: Row comes back as dict"),
        (Open, Open.model_validate({"more": Decimal(1)}), "more: Decimal comes back as str"),
        (Box[Any], Box[Any](value=Row()), "value: Row comes back as dict"),
        (time, time(2, 30, tzinfo=BERLIN), "the time comes back changed"),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", repr(value)),
)
def test_what_would_change_is_refused_with_its_path(tp: Any, value: Any, message: str) -> None:
    assert refusal(tp, value).startswith(message)


@pytest.mark.parametrize(
    ("tp", "value"),
    [
        (Price, Price(amount=0.25)),
        (Hidden, Hidden(kept=1)),
        (HiddenNone, HiddenNone(dropped=4)),
        (Private, with_private()),
        (Tally, tally()),
        (Doubled, Doubled(2)),
        (Either, Either(value=Row(), choice=True)),
        (Either, Either(value=Row(), choice=1)),
        (Either, Either(value=Row(), choice=Decimal("1.50"))),
        (Pet, Pet(pet=Dog())),
        (Box[Row], Box[Row](value=Row())),
        (Box[int], Box(value=1)),
        (Box, Box[int](value=1)),
        (Base, Base(row=Row(score=0.5))),
        (Duck, Duck(row=Row())),
        (Entry, {"name": "a"}),
        (list[Pair], [Pair(1, 2)]),
        (Anything, Anything(value={"a": [1, 1.0, True, None, "a"]})),
        (Anything, Anything(value=OrderedDict(a=1))),
        (Open, Open.model_validate({"more": [1]})),
        (Level | None, Level.HIGH),
        (Sloppy, Sloppy(name="a")),
        (list[Sloppy], [Sloppy(name="a"), Sloppy(name="b", count=1)]),
        (RootModel[list[Row]], RootModel[list[Row]]([Row(name="a")])),
    ],
    ids=repr,
)
def test_what_would_not_change_is_kept(tp: Any, value: Any) -> None:
    back = kept(tp, value)

    assert back == value


def test_an_object_that_is_not_compared_by_value_is_kept_with_its_attributes() -> None:
    assert kept(Wallet, Wallet(money=Money(0.5))).money.amount == 0.5


def test_types_are_kept_where_values_of_two_types_are_equal() -> None:
    back = kept(Anything, Anything(value=[1, 1.0, True], thing={"a": 0.0}))

    assert [type(item) for item in back.value] == [int, float, bool]
    assert type(back.thing["a"]) is float


def test_a_subclass_that_is_made_later_is_refused_as_well() -> None:
    class Plain(BaseModel):
        number: int

    schema = Schema.of(Plain)
    assert schema.store(Plain(number=1), what="output") == '{"number":1}'

    class Later(Plain):
        more: int = 2

    with pytest.raises(PayloadError, match="Later comes back as Plain"):
        schema.store(Later(number=1), what="output")


def test_a_value_of_another_type_that_was_put_into_a_model_is_parsed_or_refused() -> None:
    class Plain(BaseModel):
        text: str
        count: int

    schema = Schema.of(Plain)

    made = Plain(text="a", count=1)
    made.count = "2"  # type: ignore[assignment] # the mistake
    assert schema.store(made, what="output") == '{"text":"a","count":2}'
    made.text = datetime(2026, 1, 1, tzinfo=UTC)  # type: ignore[assignment] # the mistake
    with pytest.raises(Exception, match="text: Input should be a valid string"):
        schema.store(made, what="output")


def test_a_private_attribute_may_hold_what_contains_itself() -> None:
    class Node:
        def __init__(self) -> None:
            self.owner: Any = self

    class Holding(BaseModel):
        _node: Any = PrivateAttr(default_factory=Node)

    assert type(kept(Holding, Holding())._node) is Node
