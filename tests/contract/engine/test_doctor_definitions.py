"""Whether the doctor's definitions fit the live runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from workflow_engine.definition import Pending, PollContext, StageContext, Suspend, Workflow, WorkflowBuilder, stage
from workflow_engine.engine import Engine
from workflow_engine.engine.upkeep.doctor import Finding, Health, examine
from workflow_engine.testing.kit import WorkflowTester

Start = Callable[..., WorkflowTester]


class Number(BaseModel):
    n: int


@stage
def double(ctx: StageContext[Number]) -> Number:
    return Number(n=2 * ctx.input.n)


def ask(_ctx: PollContext[Number]) -> Number | Pending:
    return Pending(next_poll_in=timedelta(hours=1))


@stage(poll=ask)
def wait(ctx: StageContext[Number]) -> Suspend[Number]:
    return Suspend(ctx.input, poll_interval=timedelta(hours=1))


doubling = WorkflowBuilder("doubling", input=Number).pipe(double).build()
waiting = WorkflowBuilder("waiting", input=Number).pipe(wait).build()


class SilentProbe:
    """A broker and workers that cannot be asked."""

    def depths(self, queues: Collection[str]) -> Mapping[str, int] | None:
        return None

    def consumers(self) -> Mapping[str, Collection[str]] | None:
        return None

    def idle_slots(self) -> int | None:
        return None

    def hazards(self) -> list[str]:
        return []


def find_definitions(engine: Engine, queue: str = "workflow") -> Finding:
    diagnosis = examine(engine, SilentProbe(), [queue])
    return next(finding for finding in diagnosis.findings if finding.check == "definitions")


def test_live_runs_that_fit_the_definitions_are_counted(start: Start) -> None:
    tester = start(doubling, waiting)
    tester.create_run(doubling, Number(n=1))

    assert find_definitions(tester.engine).message == "the plans of 1 live runs fit"


def test_a_live_run_of_a_workflow_that_is_gone_is_named(start: Start) -> None:
    tester = start(doubling)
    run = tester.create_run(doubling, Number(n=1))

    finding = find_definitions(tester.new_engine([waiting]))

    assert finding.health is Health.DEGRADED
    [detail] = finding.details
    assert detail == (
        f"1 runs of doubling (such as {run.id}): the workflow is not registered here, but waits in workflow beside "
        "waiting; if it is another app's, give each app a WORKFLOW_ENGINE_QUEUE of its own"
    )


def test_workers_that_give_back_the_work_of_another_app_are_named_at_once(start: Start) -> None:
    tester = start(doubling)
    tester.create_run(doubling, Number(n=1))
    stranger = tester.new_engine([waiting])
    tester.deliver(engine=stranger)

    [detail] = find_definitions(stranger).details

    assert f"; given back by {stranger.worker_id};" in detail


def test_another_app_that_has_queues_of_its_own_is_nothing_to_worry_about(start: Start) -> None:
    tester = start(doubling)
    tester.create_run(doubling, Number(n=1))

    finding = find_definitions(tester.new_engine([waiting]), "other")

    assert (finding.health, finding.message) == (Health.HEALTHY, "the plans of 0 live runs fit")


def test_a_live_run_with_a_stage_that_is_gone_is_named(start: Start) -> None:
    tester = start(doubling)
    tester.create_run(doubling, Number(n=1))
    changed: Workflow[Any, Any] = WorkflowBuilder("doubling", input=Number).pipe(wait).build()

    finding = find_definitions(tester.new_engine([changed]))

    assert finding.details[0].endswith("the workflow has no double")


def test_definitions_are_not_compared_where_none_are_known(start: Start) -> None:
    tester = start(doubling)
    tester.create_run(doubling, Number(n=1))

    assert find_definitions(tester.new_engine([])).health is Health.UNKNOWN
