"""What child runs cost counts for the run that started them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import NoInput, StageContext, Suspend, UntilRuns, WorkflowBuilder, stage
from workflow_engine.errors import RunNotFoundError
from workflow_engine.runtime import WorkflowRuntime

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

        total = runtime.rolled_up_cost(run.id)
        own = run.snapshot()

        assert (total.cost, total.tokens, total.runs) == (Decimal(4), 43, 7)
        assert (own.total_cost, own.total_tokens) == (Decimal(1), 1)
        with pytest.raises(RunNotFoundError):
            runtime.rolled_up_cost("no-such-run")
