"""Runs that stages create through the runtime or their context."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import NoInput, Retry, StageContext, Suspend, UntilRuns, WorkflowBuilder, stage
from workflow_engine.errors import RunFailed, RunNotFoundError
from workflow_engine.facade.executor import WorkflowExecutor
from workflow_engine.facade.runtime import WorkflowRuntime

if TYPE_CHECKING:
    from pathlib import Path


def test_costs_of_children_and_grandchildren_are_rolled_up(tmp_path: Path) -> None:
    @stage
    def leaf(ctx: StageContext[NoInput]) -> int:
        ctx.report(cost=0.25, tokens=10)
        return 1

    def start_two(ctx: StageContext[Any], workflow: str) -> UntilRuns:
        ctx.report(cost=1, tokens=1)
        return Suspend.until_runs(*(ctx.create_run(workflow, key=str(number)) for number in range(2)))

    @stage
    def middle(ctx: StageContext[NoInput]) -> UntilRuns:
        return start_two(ctx, "leaves")

    @stage
    def top(ctx: StageContext[NoInput]) -> UntilRuns:
        return start_two(ctx, "middles")

    workflows = [
        WorkflowBuilder("leaves").pipe(leaf).build(),
        WorkflowBuilder("middles").pipe(middle).build(),
        WorkflowBuilder("tops").pipe(top).build(),
    ]
    runtime = WorkflowRuntime(workflows, database_url=f"sqlite:///{tmp_path / 'costs.db'}", broker_url="memory://")
    with runtime:
        runtime.start()
        run = runtime.create_run("tops")
        run.wait()

        total = runtime.get_cost(run.id)
        own = run.snapshot()

        assert (total.cost, total.tokens, total.runs) == (Decimal(4), 43, 7)
        assert (own.total_cost, own.total_tokens) == (Decimal(1), 1)
        with pytest.raises(RunNotFoundError):
            runtime.get_cost("no-such-run")


def test_a_child_that_is_created_through_the_runtime_is_found_again_by_the_next_attempt(tmp_path: Path) -> None:
    @stage
    def leaf(ctx: StageContext[NoInput]) -> int:
        return 1

    @stage(retry=Retry(2, backoff=timedelta(0)))
    def one(ctx: StageContext[NoInput]) -> UntilRuns:
        child = runtime.create_run("leaves", parent=ctx)
        if ctx.attempt == 1:
            raise ConnectionError
        return Suspend.until_runs(child)

    @stage
    def two(ctx: StageContext[NoInput]) -> UntilRuns:
        return Suspend.until_runs(*(runtime.create_run("leaves", parent=ctx) for _ in range(2)))

    workflows = [
        WorkflowBuilder("leaves").pipe(leaf).build(),
        WorkflowBuilder("ones").pipe(one).build(),
        WorkflowBuilder("twos").pipe(two).build(),
    ]
    runtime = WorkflowRuntime(workflows, database_url=f"sqlite:///{tmp_path / 'family.db'}", broker_url="memory://")
    with runtime:
        runtime.start()
        run, refused = runtime.create_run("ones"), runtime.create_run("twos")
        run.wait()

        assert len(runtime.list_runs(parent=run.id).items) == 1
        with pytest.raises(RunFailed, match="give each a key of its own"):
            refused.wait()


def test_runs_that_stages_create_are_executed_by_the_executor_as_well() -> None:
    @stage
    def double(ctx: StageContext[int]) -> int:
        return ctx.input * 2

    doubling = WorkflowBuilder("doubling", input=int).pipe(double).build()

    @stage(retry=Retry(2, backoff=timedelta(0)))
    def spread(ctx: StageContext[int]) -> UntilRuns:
        children = [ctx.create_run(doubling, number, key=str(number)) for number in range(ctx.input)]
        if ctx.attempt == 1:
            raise ConnectionError
        return Suspend.until_runs(*children)

    @stage
    def add(ctx: StageContext[dict[str, int]]) -> int:
        return sum(ctx.input.values())

    family = WorkflowBuilder("family", input=int).pipe(spread).pipe(add).build()
    executor = WorkflowExecutor(family, children=[doubling])

    assert executor.execute(4) == 12
    assert len(executor.run.list_stages()) == 2
