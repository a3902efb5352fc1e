"""A value that passes from the caller to a stage, and from stage to stage, stays what it was, or the stage fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, field_serializer

from workflow_engine.definition import StageContext, WorkflowBuilder, stage
from workflow_engine.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


class Patch(BaseModel):
    name: str | None = None
    phone: str | None = None


class Seconds(BaseModel):
    seconds: float

    @field_serializer("seconds")
    def shown(self, value: float) -> float:
        return round(value)


def test_a_later_stage_sees_which_fields_the_earlier_one_and_the_caller_had_set(start: Start) -> None:
    seen: list[Patch] = []

    @stage
    def first(ctx: StageContext[Patch]) -> Patch:
        seen.append(ctx.input)
        return Patch(phone=None)

    @stage
    def second(ctx: StageContext[Patch]) -> int:
        seen.append(ctx.input)
        return 1

    workflow = WorkflowBuilder("patching", input=Patch).pipe(first).pipe(second).build()
    tester = start(workflow)

    run = tester.create_run(workflow, Patch(name="x"), idempotency_key="k")
    same = tester.create_run(workflow, Patch(name="x", phone=None), idempotency_key="k")
    tester.run_until_idle()

    assert [patch.model_dump(exclude_unset=True) for patch in seen] == [{"name": "x"}, {"phone": None}]
    assert same.id == run.id


def test_an_output_that_its_serializer_would_change_fails_the_stage(start: Start) -> None:
    @stage
    def measure(ctx: StageContext[int]) -> Seconds:
        return Seconds(seconds=0.4)

    workflow = WorkflowBuilder("measuring", input=int).pipe(measure).build()
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    error = run.snapshot().error_message
    assert run.status is RunStatus.FAILED

    assert error == 'Cannot store output of stage "measure": seconds: the float comes back changed'


class Aliased(BaseModel):
    limit: int = 1
    most: int = Field(default=5, alias="mostItems")
    both: int = Field(default_factory=lambda data: data["limit"] + data["most"])


def test_a_stage_sees_the_config_that_the_caller_gave_by_name_or_by_alias(start: Start) -> None:
    @stage
    def read(ctx: StageContext[int, Aliased]) -> list[int]:
        return [ctx.config.limit, ctx.config.most, ctx.config.both]

    workflow = WorkflowBuilder("reading", input=int).pipe(read).build()
    tester = start(workflow)

    by_alias = tester.create_run(workflow, 1, config={"read": {"mostItems": 7}})
    by_name = tester.create_run(workflow, 1, config={"read": {"most": 7}})
    tester.run_until_idle()
    fork = tester.fork(by_alias.id, from_stage="read", config={"read": {"limit": 2, "mostItems": 9}})
    tester.run_until_idle()

    assert by_alias.output() == by_name.output() == [1, 7, 8]
    assert fork.output() == [2, 9, 8]
