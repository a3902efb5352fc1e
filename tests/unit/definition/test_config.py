"""The config of a run: merged deeply over the defaults, parsed, and refused with all problems at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator

from workflow_engine.definition import NoInput, Stage, Workflow, WorkflowBuilder, define_stage
from workflow_engine.errors import InvalidDataError


class Backoff(BaseModel):
    seconds: float = 1.0
    factor: float = 2.0


class Fast(BaseModel):
    kind: Literal["fast"] = "fast"
    speed: int = 1


class Careful(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["careful"]
    checks: int = 3


class Config(BaseModel):
    model: str = "small"
    backoff: Backoff = Backoff(seconds=5.0, factor=3.0)
    optional: Backoff | None = None
    weights: dict[str, Any] = {"a": 1, "nested": {"x": 1, "y": 2}}
    mode: Fast | Careful = Fast(speed=9)
    tags: list[str] = ["default"]


class Required(BaseModel):
    limit: int
    most: int = Field(default=5, alias="mostItems", le=10)
    other: int = Field(default=1, validation_alias=AliasChoices("otherItems", "o"))


class Ignoring(BaseModel):
    model_config = ConfigDict(extra="ignore")
    a: int = 1


class Legacy(BaseModel):
    a: int = 1

    @model_validator(mode="before")
    @classmethod
    def rename(cls, value: Any) -> Any:
        return {"a": value["old"]} if "old" in value else value


class Secretive(BaseModel):
    api_key: SecretStr = SecretStr("")


@dataclass
class Plain:
    a: int = 1


def make(stage_id: str, config: Any) -> Stage[Any, Any]:
    return define_stage(id=stage_id, execute=lambda _: 1, input=NoInput, output=int, config=config)


def build(**configs: Any) -> Workflow[Any, Any]:
    builder: WorkflowBuilder[Any, Any] = WorkflowBuilder("w")
    for stage_id, config in configs.items():
        builder = builder.pipe(make(stage_id, config))
    return builder.build()


def problems(workflow: Workflow[Any, Any], config: object) -> tuple[str, ...]:
    with pytest.raises(InvalidDataError) as caught:
        workflow.validate_config(config)
    assert caught.value.what == 'config of workflow "w"'
    return caught.value.problems


DEFAULTS = {
    "model": "small",
    "backoff": {"seconds": 5.0, "factor": 3.0},
    "optional": None,
    "weights": {"a": 1, "nested": {"x": 1, "y": 2}},
    "mode": {"kind": "fast", "speed": 9},
    "tags": ["default"],
}


@pytest.mark.parametrize("config", [None, {}, {"s": None}, {"s": {}}, {"s": Config()}], ids=repr)
def test_without_overrides_the_defaults_hold(config: Any) -> None:
    assert build(s=Config).resolve_config(config) == {"s": DEFAULTS}


def test_every_stage_has_a_config() -> None:
    resolved = build(a=Config, b=Ignoring).resolve_config({"b": {"a": 2}})

    assert resolved == {"a": DEFAULTS, "b": {"a": 2}}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ({"model": "big"}, {"model": "big"}),
        ({"backoff": {"seconds": "7"}}, {"backoff": {"seconds": 7.0, "factor": 3.0}}),
        ({"backoff": Backoff(seconds=7.0)}, {"backoff": {"seconds": 7.0, "factor": 2.0}}),
        ({"optional": {"factor": 9}}, {"optional": {"seconds": 1.0, "factor": 9.0}}),
        ({"weights": {"b": 2}}, {"weights": {"a": 1, "nested": {"x": 1, "y": 2}, "b": 2}}),
        ({"weights": {"nested": {"x": 5}}}, {"weights": {"a": 1, "nested": {"x": 5, "y": 2}}}),
        ({"mode": {"kind": "careful"}}, {"mode": {"kind": "careful", "checks": 3}}),
        ({"tags": ["b"]}, {"tags": ["b"]}),
        ({"weights": {"a": None}}, {"weights": {"a": None, "nested": {"x": 1, "y": 2}}}),
    ],
    ids=repr,
)
def test_overrides_are_merged_deeply(override: Any, changed: dict[str, Any]) -> None:
    assert build(s=Config).resolve_config({"s": override}) == {"s": DEFAULTS | changed}


def test_the_defaults_of_the_definition_are_not_changed_by_a_run() -> None:
    workflow = build(s=Config)

    workflow.resolve_config({"s": {"weights": {"a": 5}}})["s"]["weights"]["nested"]["x"] = 7

    assert workflow.resolve_config() == {"s": DEFAULTS}


def test_a_resolved_config_resolves_to_itself() -> None:
    workflow = build(s=Config)
    resolved = workflow.resolve_config({"s": {"mode": {"kind": "careful"}, "backoff": {"factor": 4}}})

    assert workflow.resolve_config(resolved) == resolved


def test_aliases_and_names_are_both_taken() -> None:
    workflow = build(s=Required)

    by_alias = workflow.resolve_config({"s": {"limit": 1, "mostItems": 7, "o": 4}})
    by_name = workflow.resolve_config({"s": {"limit": 1, "most": 7, "other": 4}})

    assert by_alias == by_name == {"s": {"limit": 1, "most": 7, "other": 4}}


def test_all_problems_of_all_stages_are_listed_at_once() -> None:
    workflow = build(extract=Required, classify=Config, last=Ignoring)

    assert problems(
        workflow,
        {
            "extrct": {},
            "extract": {"mostItems": 11},
            "classify": {"backoff": {"seconds": "x"}, "tags": 3},
            "last": [1],
        },
    ) == (
        "no stage 'extrct' (did you mean \"extract\"? stages: extract, classify, last)",
        "extract.limit: Field required",
        "extract.most: Input should be less than or equal to 10",
        "classify.backoff.seconds: Input should be a valid number, unable to parse string as a number",
        "classify.tags: Input should be a valid list",
        "last: expected a mapping or a Ignoring, got list",
    )


def test_unknown_fields_are_refused_with_the_nearest() -> None:
    assert problems(build(s=Config), {"s": {"modl": "x", "backoff": {"factr": 1}, "zzz": 1}}) == (
        f's.modl: no such field in Config (did you mean "model"? fields: {", ".join(Config.model_fields)})',
        's.backoff.factr: no such field in Backoff (did you mean "factor"? fields: seconds, factor)',
        f"s.zzz: no such field in Config (fields: {', '.join(Config.model_fields)})",
    )


def test_a_model_that_ignores_unknown_fields_means_it() -> None:
    assert build(s=Ignoring).resolve_config({"s": {"b": 1}}) == {"s": {"a": 1}}


def test_a_model_that_rewrites_its_input_decides_itself() -> None:
    assert build(s=Legacy).resolve_config({"s": {"old": 4}}) == {"s": {"a": 4}}


@pytest.mark.parametrize("config", [[], "x", 3], ids=repr)
def test_a_config_is_a_mapping(config: Any) -> None:
    assert problems(build(s=Config), config) == (
        f"expected a mapping of stage ids to configs, got {type(config).__name__}",
    )


def test_a_stage_without_config_takes_none() -> None:
    workflow = WorkflowBuilder("w").pipe(define_stage(id="s", execute=lambda _: 1, input=NoInput, output=int)).build()

    assert workflow.resolve_config() == {"s": {}}
    assert problems(workflow, {"s": {"a": 1}}) == ("s.a: no such field in NoConfig (fields: none)",)


def test_a_config_may_be_a_dataclass() -> None:
    workflow = build(s=Plain)

    assert workflow.resolve_config() == {"s": {"a": 1}}
    assert workflow.resolve_config({"s": {"a": "2"}}) == {"s": {"a": 2}}


def test_a_secret_in_a_config_is_refused_and_not_shown() -> None:
    message = problems(build(s=Secretive), {"s": {"api_key": "hunter2"}})[0]

    assert "a secret cannot be stored" in message
    assert "hunter2" not in message


def test_defaults_leave_out_required_fields() -> None:
    assert build(s=Required, t=Config).default_config() == {"s": {"most": 5, "other": 1}, "t": DEFAULTS}
