"""Child runs are kept, cancelled, run again and read as their parent needs it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine import engine as commands
from workflow_engine.definition import Pending, Retry, Suspend, define_async_batch_stage, define_stage
from workflow_engine.engine.waits import runs as waits_for_runs
from workflow_engine.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def family(tester_of: list[WorkflowTester], *children: Any) -> Any:
    def body(ctx: Any) -> Any:
        ids = [
            tester_of[0].create_run(child, 1, parent_run_id=ctx.run_id, parent_stage_run_id=ctx.stage_run_id).id
            for child in children
        ]
        return Suspend.until_runs(*ids)

    return chain(define_stage(id="waits", execute=body, input=int, output=dict[str, Any]), name="parent")


def test_a_child_that_its_live_parent_waits_for_is_not_pruned(start: Start) -> None:
    testers: list[WorkflowTester] = []
    quick, slow = chain(step("a"), name="quick"), chain(step("a"), name="slow")
    parent = family(testers, quick, slow)
    tester = start(parent, quick, slow)
    testers.append(tester)
    run = tester.create_run(parent, 1)
    tester.deliver()
    late = next(
        hint for hint in tester.messages.waiting if hint.run_id == tester.list_runs(workflow="slow").items[0].id
    )
    tester.messages.waiting.remove(late)
    tester.deliver()
    tester.advance(timedelta(hours=2))

    pruned = commands.prune(tester.engine, older_than=timedelta(hours=1))
    tester.deliver(late)
    tester.run_until_idle()

    assert (pruned, run.status) == (0, RunStatus.COMPLETED)
    tester.advance(timedelta(hours=2))
    assert commands.prune(tester.engine, older_than=timedelta(hours=1)) == 3


def test_a_failed_child_can_be_rerun_after_its_parent_gave_up(start: Start) -> None:
    testers: list[WorkflowTester] = []
    is_broken = [True]

    def work(_: Any) -> int:
        if is_broken[0]:
            raise ValueError("no")
        return 1

    child = chain(define_stage(id="a", execute=work, input=int, output=int, retry=Retry(max_attempts=1)), name="child")
    parent = family(testers, child)
    tester = start(parent, child)
    testers.append(tester)
    run = tester.create_run(parent, 1)
    tester.run_to_end(run)
    failed = tester.list_runs(workflow="child").items[0]
    is_broken[0] = False

    tester.advance(timedelta(seconds=1))
    tester.rerun(failed.id, from_stage="a")
    tester.sweep()
    tester.run_until_idle()

    assert tester.get_run(failed.id).status is RunStatus.COMPLETED


def test_a_rerun_child_is_cancelled_with_its_parent(start: Start) -> None:
    testers: list[WorkflowTester] = []
    attempts: list[int] = []

    def work(_: Any) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("no")
        return 1

    child = chain(define_stage(id="a", execute=work, input=int, output=int, retry=Retry(max_attempts=1)), name="child")

    def body(ctx: Any) -> Any:
        testers[0].create_run(child, 1, parent_run_id=ctx.run_id, parent_stage_run_id=ctx.stage_run_id)
        return Suspend(1)

    waits = define_async_batch_stage(
        id="waits", execute=body, check=lambda _: Pending(), input=int, output=int, state=int
    )
    parent = chain(waits, name="parent")
    tester = start(parent, child)
    testers.append(tester)
    run = tester.create_run(parent, 1)
    tester.run_until_idle()
    failed = tester.list_runs(workflow="child").items[0]
    tester.rerun(failed.id, from_stage="a")

    run.cancel()

    assert tester.get_run(failed.id).status is RunStatus.CANCELLED


def test_polls_for_runs_read_no_outputs_before_all_have_ended(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    testers: list[WorkflowTester] = []
    children = [chain(step("a"), name=f"child-{number}") for number in range(5)]
    parent = family(testers, *children)
    tester = start(parent, *children)
    testers.append(tester)
    read: list[int] = []
    original = waits_for_runs.read_run_results
    monkeypatch.setattr(waits_for_runs, "read_run_results", lambda tx, ids: read.append(len(ids)) or original(tx, ids))
    run = tester.create_run(parent, 1)

    while tester.messages.waiting:  # the last one first: each end is followed by a poll
        tester.deliver(tester.messages.waiting[-1])

    assert (run.status, read) == (RunStatus.COMPLETED, [5])
    assert stage_of(run, "waits").polls == 5
