"""Ending and holding runs, whatever they are doing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, polled, stage_of, step
from workflow_engine.definition import Pending, Retry, Suspend, define_async_batch_stage
from workflow_engine.errors import LeaseLost, RetryAfter, RunStateError
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.upkeep.cleanups import claim_cleanup

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def noting(seen: list[Any], item: Any, result: Any) -> Any:
    seen.append(item)
    return result


class Hook:
    """An ``on_cancel`` that raises so many times before it works."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.states: list[Any] = []

    def __call__(self, ctx: Any) -> None:
        self.states.append(ctx.state)
        ctx.log.info("cancelled there", state=ctx.state)
        if len(self.states) <= self.failures:
            raise ConnectionError("provider does not answer")


def in_state(state: str, start: Start, hook: Hook, entered: list[str]) -> tuple[WorkflowTester, RunHandle[Any]]:
    """Return a run whose stage ``a`` is in that state, or gets cancelled in it."""

    def body(ctx: Any) -> int:
        entered.append("body")
        if state == "running":
            run.cancel()
        raise RetryAfter(timedelta(hours=1))

    def check(_: Any) -> Any:
        entered.append("poll")
        run.cancel()
        return 1

    is_polled = state in {"suspended", "polling"}
    first = polled("a", check=check, on_cancel=hook) if is_polled else step("a", body, on_cancel=hook)
    workflow = chain(first, step("after", lambda ctx: noting(entered, "after", ctx.input)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    if state != "pending":
        tester.deliver()
    if state == "polling":
        tester.advance(timedelta(seconds=31))
        tester.run_until_idle()
    return tester, run


@pytest.mark.parametrize("state", ["pending", "running", "waiting for retry", "suspended", "polling"])
def test_a_cancel_in_any_state_is_the_end(start: Start, state: str) -> None:
    entered: list[str] = []
    tester, run = in_state(state, start, Hook(), entered)
    run.cancel()
    entered.clear()

    run.cancel()
    tester.advance(timedelta(days=3))
    tester.run_until_idle()

    assert (run.status, stage_of(run).status) == (RunStatus.CANCELLED, StageStatus.CANCELLED)
    assert entered == []
    assert [str(event.type) for event in run.list_events()].count("run.cancelled") == 1
    assert run.snapshot().completed_at is not None
    tester.assert_consistent(final=True)


@pytest.mark.parametrize("state", ["suspended", "polling"])
def test_what_was_started_elsewhere_is_stopped_there(start: Start, state: str) -> None:
    hook = Hook()
    tester, run = in_state(state, start, hook, [])

    run.cancel()
    tester.run_until_idle()
    tester.advance(timedelta(hours=1))
    tester.run_until_idle()

    assert hook.states == [7]
    assert [line.message for line in run.list_logs().items] == ["cancelled there"]


def test_what_was_started_elsewhere_while_the_cancel_came_is_stopped_there(start: Start) -> None:
    def execute(_: Any) -> Any:
        run.cancel()
        return Suspend(9)

    hook = Hook()
    waits = define_async_batch_stage(
        id="a", execute=execute, check=lambda _: Pending(), input=int, output=int, state=int, on_cancel=hook
    )
    workflow = chain(waits)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_until_idle()

    assert (hook.states, stage_of(run).status) == ([9], StageStatus.CANCELLED)
    tester.assert_consistent(final=True)


def test_a_hook_that_raises_is_called_again_and_given_up_in_the_end(start: Start) -> None:
    works_later, never_works = Hook(failures=2), Hook(failures=99)
    workflow = chain((polled("a", on_cancel=works_later), polled("b", on_cancel=never_works)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    run.cancel()

    for _ in range(12):
        tester.run_until_idle()
        tester.advance(timedelta(minutes=5))

    assert (len(works_later.states), len(never_works.states)) == (3, 5)
    tester.assert_consistent(final=True)


def test_a_hook_that_takes_its_workers_down_is_given_up_too(start: Start) -> None:
    calls: list[int] = []
    workflow = chain(polled("a", on_cancel=lambda _: calls.append(1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    run.cancel()
    stage_run_id = stage_of(run).id

    for _ in range(5):  # taken, and never heard of again
        assert tester.database.transact(lambda tx: claim_cleanup(tx, stage_run_id, 120_000))
        tester.advance(timedelta(minutes=3))
    tester.run_until_idle()

    assert calls == []
    tester.assert_consistent(final=True)


def test_max_wait_owes_the_hook_as_well(start: Start) -> None:
    hook = Hook()
    workflow = chain(polled("a", on_cancel=hook, max_wait=timedelta(minutes=1), poll_interval=timedelta(hours=1)))
    tester = start(workflow)
    tester.create_run(workflow, 1)
    tester.run_until_idle()

    tester.advance(timedelta(minutes=2))
    tester.run_until_idle()

    assert hook.states == [7]


def test_a_body_sees_that_it_was_cancelled(start: Start) -> None:
    seen: list[bool] = []

    def body(ctx: Any) -> int:
        seen.append(ctx.cancelled)
        run.cancel()
        tester.clock.skew += timedelta(seconds=2)
        seen.append(ctx.cancelled)
        ctx.raise_if_cancelled()
        return 1

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    performed = tester.deliver()

    assert (seen, performed.result) == ([False, True], "discarded")


def test_artifacts_of_a_cancelled_body_are_refused(start: Start) -> None:
    def body(ctx: Any) -> int:
        ctx.storage.save("early.json", 1)
        run.cancel()
        with pytest.raises(LeaseLost):
            ctx.storage.save("late.json", 1)
        return 1

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver()

    assert [one.key for one in run.list_artifacts()] == ["early.json"]


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_a_run_that_has_ended_is_not_cancelled(start: Start, end: str) -> None:
    def body(_: Any) -> int:
        return 1 if end == "completed" else int("x")

    workflow = chain(step("a", body, retry=Retry(max_attempts=1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    before = run.snapshot()

    after = run.cancel()

    assert after == before == run.snapshot()


def test_a_paused_run_is_not_taken_and_goes_on_when_it_is_resumed(start: Start) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.pause(run.id)
    while_paused = tester.deliver().result
    tester.advance(timedelta(minutes=10))
    tester.run_until_idle()
    status = run.status

    tester.resume(run.id)
    sent = len(tester.messages.waiting)
    tester.run_until_idle()

    assert (while_paused, status, sent, run.output()) == ("ignored", RunStatus.PENDING, 1, 1)


def test_what_runs_when_a_run_is_paused_ends_and_what_follows_is_held(start: Start) -> None:
    def pause_and_go_on(ctx: Any) -> int:
        tester.pause(ctx.run_id)
        return 5

    workflow = chain(step("a", pause_and_go_on), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_until_idle()
    held = [(one.stage_id, one.status) for one in run.list_stages()]
    tester.resume(run.id)
    tester.run_until_idle()

    assert held == [("a", StageStatus.COMPLETED), ("b", StageStatus.PENDING)]
    assert run.output() == 5


def test_polls_of_a_paused_run_are_held_and_its_waits_go_on(start: Start) -> None:
    workflow = chain(polled("a", check=lambda ctx: ctx.state, max_wait=timedelta(hours=2)))
    tester = start(workflow, final_poll_grace=timedelta(hours=1))
    kept, late = (tester.create_run(workflow, 1) for _ in range(2))
    tester.run_until_idle()
    for run in (kept, late):
        tester.pause(run.id)
    tester.advance(timedelta(hours=1))
    tester.run_until_idle()
    while_paused = kept.status

    tester.resume(kept.id)
    tester.run_until_idle()
    for _ in range(2):
        tester.advance(timedelta(hours=1, seconds=1))
        tester.run_until_idle()

    assert while_paused is RunStatus.SUSPENDED
    assert kept.output() == 7
    assert late.snapshot().error_code == "WAIT_TIMEOUT"


def test_a_paused_workflow_holds_its_runs_and_no_others(start: Start) -> None:
    held, free = chain(step("a"), name="held"), chain(step("a"), name="free")
    tester = start(held, free)
    old = tester.create_run(held, 1)
    tester.pause_workflow("held")
    new, other = tester.create_run(held, 2), tester.create_run(free, 3)
    own = tester.create_run(held, 4)
    tester.pause(own.id)
    tester.run_until_idle()
    before = [run.status for run in (old, new, other)]

    assert tester.resume_workflow("held") == 3
    tester.run_until_idle()

    assert before == [RunStatus.PENDING, RunStatus.PENDING, RunStatus.COMPLETED]
    assert [run.status.value for run in (old, new, own)] == ["COMPLETED", "COMPLETED", "PENDING"]


def test_a_run_that_has_ended_is_neither_paused_nor_resumed(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    for act in (tester.pause, tester.resume):
        with pytest.raises(RunStateError, match="is COMPLETED and cannot be"):
            act(run.id)


def test_a_cancelled_paused_run_ends(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.pause(run.id)

    run.cancel()
    run.rerun(from_stage="a")
    tester.run_until_idle()

    assert run.output() == 1
