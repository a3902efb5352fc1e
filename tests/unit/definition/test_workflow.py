"""What can be asked about a workflow."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, FrozenInstanceError, fields
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_engine.definition import (
    GroupFailurePolicy,
    NoInput,
    Plan,
    PlannedStage,
    Retry,
    Stage,
    StageContext,
    Workflow,
    WorkflowBuilder,
    define_stage,
    stage,
)
from workflow_engine.definition.stages.stage import CommonOptions
from workflow_engine.errors import InvalidDataError, StageNotFoundError


class Document(BaseModel):
    pages: int


class Limits(BaseModel):
    most: int = 5


@stage(
    name='Extract "text"',
    queue="gpu",
    retry=Retry(max_attempts=4),
    max_crashes=2,
    queue_timeout=timedelta(seconds=1.5),
    estimate_cost=lambda document, config: document.pages * config.most * 0.1,
)
def extract(ctx: StageContext[Document, Limits]) -> str:
    return ""


@stage
def first(ctx: StageContext[str]) -> str:
    return ""


@stage
def second(ctx: StageContext[str]) -> str:
    return ""


@stage(name="End <all> #1", dependencies=[extract, first], estimate_cost=lambda *_: 2)
def end(ctx: StageContext[NoInput]) -> int:
    return 1


def build(**options: Any) -> Workflow[Any, Any]:
    builder = WorkflowBuilder("analysis", input=Document, **options)
    return builder.pipe(extract).parallel(first, second).pipe(end).build()


def test_stages_are_found_by_id() -> None:
    workflow = build()

    assert workflow.stage_ids() == ("extract", "first", "second", "end")
    assert workflow.get_stage("first") is first
    assert workflow.find_stage("first") is first
    assert workflow.has_stage("first")
    assert list(workflow.stages.values()) == [extract, first, second, end]


def test_an_unknown_stage_is_an_error_or_none() -> None:
    workflow = build()

    for ask in (workflow.get_stage, workflow.stage_index, workflow.group_index, workflow.previous_group):
        with pytest.raises(StageNotFoundError, match='Stage "third" not found in workflow "analysis"'):
            ask("third")
    assert workflow.find_stage("third") is None
    assert not workflow.has_stage("third")


def test_positions_in_the_plan() -> None:
    workflow = build()

    assert workflow.execution_plan == (("extract",), ("first", "second"), ("end",))
    assert [workflow.stage_index(stage_id) for stage_id in workflow.stage_ids()] == [0, 1, 2, 3]
    assert [workflow.group_index(stage_id) for stage_id in workflow.stage_ids()] == [1, 2, 2, 3]
    assert workflow.stages_in_group(2) == (first, second)
    assert workflow.stages_in_group(0) == workflow.stages_in_group(4) == workflow.stages_in_group(-1) == ()
    assert workflow.previous_group("extract") is None
    assert workflow.previous_group("second") is workflow.groups[0]
    assert workflow.previous_group("end") is workflow.groups[1]


def test_a_workflow_cannot_be_changed() -> None:
    workflow = build()

    with pytest.raises(FrozenInstanceError):
        workflow.id = "other"  # type: ignore[misc] # the mistake
    with pytest.raises(TypeError):
        workflow.stages["x"] = first  # type: ignore[index] # the mistake


def test_a_workflow_shows_what_it_does() -> None:
    assert repr(build()) == "Workflow('analysis': Document -> int, 4 stages)"


def test_the_order_of_execution_as_text() -> None:
    assert build().execution_order() == (
        'Analysis\n  1. Extract "text" [extract]\n  2. First [first] | Second [second]\n  3. End <all> #1 [end]'
    )


def test_the_flowchart_escapes_names_and_dots_far_dependencies() -> None:
    assert build().to_mermaid().splitlines() == [
        "flowchart TD",
        '    stage_extract["Extract #quot;text#quot;"]',
        '    subgraph group_2["Group 2"]',
        '        stage_first["First"]',
        '        stage_second["Second"]',
        "    end",
        '    stage_end["End #lt;all#gt; #35;1"]',
        "    stage_extract --> stage_first",
        "    stage_extract --> stage_second",
        "    stage_first --> stage_end",
        "    stage_second --> stage_end",
        "    stage_extract -.-> stage_end",
    ]


def test_the_plan_is_what_a_run_needs() -> None:
    plan = build(on_failure=GroupFailurePolicy.WAIT_ALL).plan()

    planned = plan.groups[0][0]
    assert (planned.id, planned.name, planned.group, planned.number) == ("extract", 'Extract "text"', 1, 1)
    assert (planned.queue, planned.max_attempts, planned.max_crashes) == ("gpu", 4, 2)
    assert (planned.queue_timeout_ms, planned.takes_input, planned.dependencies) == (1500, True, ())
    assert planned.fingerprint == extract.fingerprint
    assert [[s.number for s in group] for group in plan.groups] == [[1], [2, 3], [4]]
    assert (plan.groups[2][0].takes_input, plan.groups[2][0].dependencies) == (False, ("extract", "first"))
    assert plan.groups[2][0].queue_timeout_ms is None
    assert plan.on_failure == ("wait_all", "wait_all", "wait_all")
    assert plan.fingerprint == build(on_failure=GroupFailurePolicy.WAIT_ALL).fingerprint


def test_a_plan_comes_back_from_its_text() -> None:
    plan = build().plan()

    text = plan.to_json()

    assert text.isascii()
    assert Plan.from_json(text) == plan
    assert Plan.from_json(text) is Plan.from_json(str(text))


#: What release 0.1.0 writes for the first and the third stage, to the letter; ``@`` stands for fingerprints.
PLANNED_BY_0_1_0 = [
    (
        '{"id":"extract","name":"Extract \\"text\\"","group":1,"number":1,"dependencies":[],"takes_input":true,"queue":"gpu",'
        '"max_attempts":4,"max_crashes":2,"queue_timeout_ms":1500,"fingerprint":"@"}'
    ),
    (
        '{"id":"end","name":"End <all> #1","group":3,"number":4,"dependencies":["extract","first"],"takes_input":false,'
        '"queue":null,"max_attempts":5,"max_crashes":3,"queue_timeout_ms":null,"fingerprint":"@"}'
    ),
]


def test_a_plan_is_the_text_that_release_0_1_0_writes_and_reads() -> None:
    text = re.sub(r'(?<="fingerprint":")\w+', "@", build().plan().to_json())

    assert text.startswith('{"groups":[[' + PLANNED_BY_0_1_0[0] + "],[")
    assert PLANNED_BY_0_1_0[1] in text
    assert text.endswith(']],"on_failure":["finish_running","finish_running","finish_running"],"fingerprint":"@"}')


def test_what_was_added_to_plans_since_release_0_1_0_has_a_default() -> None:
    added = {one.name: one.default for one in fields(PlannedStage) if one.name not in json.loads(PLANNED_BY_0_1_0[0])}

    assert MISSING not in added.values()


def test_every_option_of_the_decorators_is_a_field_of_the_stage() -> None:
    assert CommonOptions.__annotations__.keys() <= {one.name for one in fields(Stage)}


def test_the_fingerprint_changes_with_what_is_executed() -> None:
    base = WorkflowBuilder("analysis", input=Document).pipe(extract)
    prints = {
        build().fingerprint,
        build(version="2").fingerprint,
        build(on_failure=GroupFailurePolicy.FAIL_FAST).fingerprint,
        base.parallel(second, first).pipe(end).build().fingerprint,
        base.pipe(first).pipe(second).pipe(end).build().fingerprint,
        base.parallel(first, second).build().fingerprint,
        base.parallel(first, second).pipe(renamed(end, version="2")).build().fingerprint,
    }

    assert len(prints) == 7
    assert build().fingerprint == build(name="Other", deadline=timedelta(1)).fingerprint


def renamed(made: Stage[Any, Any], **options: Any) -> Stage[Any, Any]:
    return define_stage(id=made.id, execute=made.body, dependencies=made.dependencies, **options)


def test_configs_are_described_with_schema_and_defaults() -> None:
    described = build().stage_configs()

    assert list(described) == ["extract", "first", "second", "end"]
    assert described["extract"]["name"] == 'Extract "text"'
    assert described["extract"]["schema"]["properties"]["most"]["default"] == 5
    assert described["extract"]["defaults"] == {"most": 5}


def test_costs_are_estimated_by_the_stages_that_can() -> None:
    assert build().estimate_cost({"pages": 3}) == {"extract": Decimal("1.5"), "end": Decimal(2)}
    assert build().estimate_cost(Document(pages=1), {"extract": {"most": 1}})["extract"] == Decimal("0.1")


def test_an_estimate_refuses_what_a_run_would_refuse() -> None:
    with pytest.raises(InvalidDataError, match='Invalid input of workflow "analysis": pages'):
        build().estimate_cost({})
    with pytest.raises(InvalidDataError, match=r"extract\.most"):
        build().estimate_cost({"pages": 1}, {"extract": {"most": "many"}})
