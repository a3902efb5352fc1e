"""What a group does when a member fails, whatever the others are doing."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine.definition import (
    GroupFailurePolicy,
    GroupOutput,
    Pending,
    Retry,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
)
from workflow_engine.engine import reap_worker, release_worker
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.lifecycle import RunStatus

ONCE = Retry(max_attempts=1)

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def fails(_: Any) -> int:
    raise ValueError("no")


class Group:
    """A run of one parallel group: ``bad`` fails while the others are in one state each."""

    def __init__(self, start: Start, policy: str) -> None:
        self.order: list[str] = []
        waits = define_async_batch_stage(
            id="suspended", execute=lambda _: Suspend(7), check=lambda ctx: ctx.state, input=int, output=int, state=int
        )
        members = (
            waits, step("retrying", self.retry), step("running", self.run_long), step("pending", self.note),
            step("bad", fails, retry=ONCE), step("done", self.note),
        )  # fmt: skip
        builder: Any = WorkflowBuilder("group", input=int).parallel(*members, on_failure=GroupFailurePolicy(policy))
        workflow = builder.pipe(step("after", lambda _: 1, takes=GroupOutput)).build()
        self.tester = start(workflow)
        self.run = self.tester.create_run(workflow, 1)
        self.hints = {hint.stage_id: hint for hint in self.tester.messages.waiting}
        for name in ("suspended", "retrying", "done", "running"):
            self.tester.deliver(self.hints[name])

    def note(self, ctx: Any) -> int:
        self.order.append(ctx.stage_id)
        return 1

    def retry(self, ctx: Any) -> int:
        self.order.append(ctx.stage_id)
        if ctx.attempt == 1:
            raise ConnectionError
        return 1

    def run_long(self, ctx: Any) -> int:
        self.tester.deliver(self.hints["bad"])
        self.seen_by_running = {one.stage_id: one.status.value for one in self.run.list_stages()}
        return 1

    def statuses(self) -> dict[str, str]:
        return {one.stage_id: one.status.value for one in self.run.list_stages()}


def test_finish_running_cancels_what_waits_and_lets_finish_what_runs(start: Start) -> None:
    group = Group(start, "finish_running")

    assert group.seen_by_running["running"] == "RUNNING"
    assert group.statuses() == {
        "suspended": "CANCELLED", "retrying": "CANCELLED", "running": "COMPLETED", "pending": "CANCELLED",
        "bad": "FAILED", "done": "COMPLETED",
    }  # fmt: skip
    assert group.run.snapshot().error_message == "no"


def test_fail_fast_cancels_what_runs_too(start: Start) -> None:
    group = Group(start, "fail_fast")

    assert group.seen_by_running["running"] == "CANCELLED"
    assert group.statuses() == {
        "suspended": "CANCELLED", "retrying": "CANCELLED", "running": "CANCELLED", "pending": "CANCELLED",
        "bad": "FAILED", "done": "COMPLETED",
    }  # fmt: skip


def test_wait_all_lets_everybody_end(start: Start) -> None:
    group = Group(start, "wait_all")
    before = group.run.status

    group.tester.run_to_end(group.run)

    assert before is RunStatus.RUNNING
    assert group.statuses() == {
        "suspended": "COMPLETED", "retrying": "COMPLETED", "running": "COMPLETED", "pending": "COMPLETED",
        "bad": "FAILED", "done": "COMPLETED",
    }  # fmt: skip
    assert group.run.status is RunStatus.FAILED


@pytest.mark.parametrize("policy", ["finish_running", "fail_fast", "wait_all"])
def test_whatever_the_policy_the_run_fails_once_and_nothing_follows(start: Start, policy: str) -> None:
    group = Group(start, policy)

    group.tester.run_to_end(group.run)
    group.tester.advance(timedelta(days=2))
    group.tester.run_until_idle()

    told = [str(event.type) for event in group.run.list_events()]
    assert told.count("run.failed") == 1
    assert "after" not in group.statuses()
    group.tester.assert_consistent(final=True)


def drained(start: Start, act: Callable[[WorkflowTester, Any], Any]) -> tuple[RunHandle[Any], str]:
    """Return the run, and what became of the member that does ``act`` after its sibling has failed."""

    def body(ctx: Any) -> Any:
        tester.deliver()
        return act(tester, ctx)

    last = define_async_batch_stage(
        id="last", execute=body, check=lambda _: Pending(), input=int, output=int, state=int
    )
    workflow = chain((last, step("bad", fails, retry=ONCE)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    tester.assert_consistent(final=False)
    return run, stage_of(run, "last").status.value


def test_a_member_of_a_failed_group_that_would_retry_fails(start: Start) -> None:
    def act(_tester: Any, _ctx: Any) -> int:
        raise ConnectionError("second")

    run, status = drained(start, act)

    assert (status, run.status, run.snapshot().error_message) == ("FAILED", RunStatus.FAILED, "no")


def test_a_member_of_a_failed_group_that_would_suspend_is_cancelled(start: Start) -> None:
    run, status = drained(start, lambda *_: Suspend(1))

    assert (status, run.status) == ("CANCELLED", RunStatus.FAILED)


def test_a_member_of_a_failed_group_that_is_reaped_is_cancelled(start: Start) -> None:
    run, status = drained(start, lambda tester, _: reap_worker(tester.engine, tester.engine.worker_id))

    assert (status, run.status) == ("CANCELLED", RunStatus.FAILED)


def test_a_member_of_a_failed_group_that_is_released_is_cancelled(start: Start) -> None:
    run, status = drained(start, lambda tester, _: release_worker(tester.engine, tester.engine.worker_id))

    assert (status, run.status) == ("CANCELLED", RunStatus.FAILED)
    assert stage_of(run, "last").attempt == 0


def test_a_member_of_a_failed_group_that_no_worker_fits_is_cancelled(start: Start) -> None:
    class Forgetful:
        """Knows the workflow until the sibling has failed."""

        def get_workflow(self, workflow_id: str, /) -> Any:
            if not asked:
                asked.append(workflow_id)
                bad = next(hint for hint in tester.messages.waiting if hint.stage_id == "bad")
                tester.deliver(bad)
            return None

    asked: list[str] = []
    workflow = chain((step("last"), step("bad", fails, retry=ONCE)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    last = next(hint for hint in tester.messages.waiting if hint.stage_id == "last")

    tester.deliver(last, engine=tester.new_engine(Forgetful()))

    assert (stage_of(run, "last").status.value, run.status) == ("CANCELLED", RunStatus.FAILED)


def test_the_last_members_of_a_group_may_end_at_the_same_time(start: Start) -> None:
    names = [f"m{number}" for number in range(6)]
    together = threading.Barrier(len(names), timeout=60)

    def body(ctx: Any) -> int:
        together.wait()
        return int(ctx.input)

    workflow = chain(tuple(step(name, body) for name in names), step("after", lambda _: 1, takes=GroupOutput))
    tester = start(workflow)
    tester.check = False
    runs = [tester.create_run(workflow, 1) for _ in range(3)]

    for _ in runs:
        hints = [tester.messages.waiting.pop(0) for _ in names]
        workers = [threading.Thread(target=tester.deliver, args=(hint,)) for hint in hints]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)

    assert [hint.stage_id for hint in tester.messages.waiting] == ["after"] * 3
    tester.run_until_idle()
    assert [run.output() for run in runs] == [1, 1, 1]
