"""Defaults of a config are Pydantic's to fill in: they see what the caller gave, and what the caller left out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, Json, RootModel, field_serializer, model_validator
from typing_extensions import TypedDict

from workflow_engine.definition import NoInput, Workflow, WorkflowBuilder, define_stage
from workflow_engine.definition.workflows.config_presets import AIConfig
from workflow_engine.errors import InvalidDataError


class Window(BaseModel):
    size: int = 10
    step: int = Field(default_factory=lambda data: data["size"] // 2)


class Computed(AIConfig):
    chunk: int = 100
    overlap: int = Field(default_factory=lambda data: data["chunk"] // 10)
    window: Window = Field(default_factory=lambda data: Window(size=data["chunk"]))
    fixed: Window = Window(size=8, step=1)
    half: Window = Window(size=8)


class Sloppy(BaseModel):
    count: int = None  # type: ignore[assignment] # as people write it
    url: HttpUrl = "http://example.org/"  # type: ignore[assignment] # as people write it
    name: str = "a"


class SloppyInside(BaseModel):
    inner: Sloppy = Sloppy()
    all: list[Sloppy] = Field(default_factory=lambda: [Sloppy(name="b")])


class Strictly(BaseModel):
    model_config = ConfigDict(validate_default=True)
    count: int = None  # type: ignore[assignment] # as people write it


class Aware(BaseModel):
    """Looks at what was given."""

    mode: str = "auto"
    limit: int = 1

    @model_validator(mode="after")
    def note(self) -> Aware:
        if self.model_fields_set == {"mode"}:
            self.limit = 9
        return self


class Rounded(BaseModel):
    share: float = 0.0
    hidden: int = Field(default=1, exclude=True)
    parsed: Json[list[int]] = Field(default_factory=list)

    @field_serializer("share")
    def shown(self, value: float) -> float:
        return round(value)


@dataclass
class Limits:
    low: int = 1
    high: int = 2


@dataclass
class Plain:
    limits: Limits = field(default_factory=lambda: Limits(5, 6))
    name: str = "a"


class WithDataclass(BaseModel):
    limits: Limits = Limits(5, 6)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1


class Typed(TypedDict, total=False):
    a: int
    b: int


class Required(BaseModel):
    size: int
    step: int = Field(default_factory=lambda data: data["size"] // 2)
    name: str = "a"


_numbers = itertools.count()


class Numbered(BaseModel):
    number: int = Field(default_factory=lambda: next(_numbers))


def build(config: Any) -> Workflow[Any, Any]:
    stage = define_stage(id="s", execute=lambda _: 1, input=NoInput, output=int, config=config)
    return WorkflowBuilder("w").pipe(stage).build()


def resolve(config: Any, override: Any = None) -> Any:
    workflow = build(config)
    resolved = workflow.resolve_config({"s": override})
    assert workflow.resolve_config(resolved) == resolved
    return resolved["s"]


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ({}, {"overlap": 10, "window": {"size": 100, "step": 50}}),
        ({"chunk": 50}, {"overlap": 5, "window": {"size": 50, "step": 25}}),
        ({"chunk": 50, "overlap": 7}, {"overlap": 7, "window": {"size": 50, "step": 25}}),
        ({"window": {"step": 3}}, {"window": {"size": 100, "step": 3}}),
        ({"chunk": 50, "window": {"step": 3}}, {"window": {"size": 50, "step": 3}}),
        ({"window": {"size": 30}}, {"window": {"size": 30, "step": 15}}),
        ({"fixed": {"size": 30}}, {"fixed": {"size": 30, "step": 1}}),
        ({"half": {"size": 30}}, {"half": {"size": 30, "step": 15}}),
        ({"half": {"step": 30}}, {"half": {"size": 8, "step": 30}}),
        ({"fixed": Window(step=2)}, {"fixed": {"size": 10, "step": 2}}),
        (Computed(chunk=20), {"overlap": 2, "window": {"size": 20, "step": 10}}),
    ],
    ids=repr,
)
def test_a_default_that_reads_other_fields_sees_what_was_given(override: Any, changed: dict[str, Any]) -> None:
    assert changed.items() <= resolve(Computed, override).items()


def test_a_default_that_does_not_fit_its_type_fails_no_run() -> None:
    assert resolve(Sloppy) == {"url": "http://example.org/", "name": "a"}
    assert resolve(Sloppy, {"count": 3, "name": "b"}) == {"count": 3, "url": "http://example.org/", "name": "b"}
    assert resolve(SloppyInside)["inner"] == {"url": "http://example.org/", "name": "a"}
    assert resolve(SloppyInside)["all"] == [{"url": "http://example.org/", "name": "b"}]


def test_a_model_that_validates_its_defaults_means_it() -> None:
    with pytest.raises(InvalidDataError, match=r"s\.count: Input should be a valid integer"):
        build(Strictly).resolve_config()


def test_validators_see_which_fields_were_given() -> None:
    assert build(Aware).resolve_config({"s": {"mode": "x"}})["s"] == {"mode": "x", "limit": 9}
    assert build(Aware).resolve_config({"s": {"mode": "x", "limit": 1}})["s"] == {"mode": "x", "limit": 1}


def test_a_config_that_would_change_when_it_is_stored_is_refused() -> None:
    workflow = build(Rounded)

    for config, problem in [
        ({"share": 0.25}, "s: Cannot store config: share: the float comes back changed"),
        ({"hidden": 2}, "s: Cannot store config: hidden: is excluded from dumps"),
        (Rounded(share=0.0, hidden=2), "s: Cannot store config: hidden: is excluded from dumps"),
    ]:
        with pytest.raises(InvalidDataError) as caught:
            workflow.resolve_config({"s": config})
        assert caught.value.problems[0].startswith(problem)


def test_values_of_an_instance_are_taken_as_they_are_and_not_as_they_are_dumped() -> None:
    assert resolve(Rounded, Rounded(share=0.0, parsed="[1, 2]")) == {"share": 0, "parsed": "[1,2]"}


def test_a_part_of_a_dataclass_is_merged_over_the_default() -> None:
    assert resolve(WithDataclass, {"limits": {"low": 0}}) == {"limits": {"low": 0, "high": 6}}


def test_other_kinds_of_config_take_what_is_given() -> None:
    assert resolve(Open, {"b": 2}) == {"a": 1, "b": 2}
    assert resolve(Typed, {"b": 2}) == {"b": 2}
    assert resolve(RootModel[dict[str, int]], {"b": 2}) == {"b": 2}
    assert resolve(Annotated[dict[str, int], Field(max_length=1)], {"b": 2}) == {"b": 2}
    assert resolve(Plain, {"name": "b"}) == {"limits": {"low": 5, "high": 6}, "name": "b"}


def test_an_instance_of_another_class_gives_its_fields() -> None:
    class More(Window):
        note: str = "x"

    assert resolve(Computed, {"fixed": Window(size=3, step=4)})["fixed"] == {"size": 3, "step": 4}
    with pytest.raises(InvalidDataError, match=r"s\.note: no such field in Window"):
        build(Window).resolve_config({"s": More(size=3)})


def test_defaults_that_need_a_missing_field_are_left_out() -> None:
    assert build(Required).default_config() == {"s": {"name": "a"}}
    assert build(Computed).default_config()["s"]["overlap"] == 10


def test_a_computed_default_is_fixed_when_the_run_is_created() -> None:
    workflow = build(Numbered)

    first = workflow.resolve_config()

    assert workflow.resolve_config(first) == first
    assert workflow.resolve_config() != first
