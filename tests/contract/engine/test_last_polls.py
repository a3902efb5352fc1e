"""The end of a wait that lasts too long: a last poll, taken by somebody, decides."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, polled, stage_of, step, suspended
from workflow_engine.definition import Pending, Suspend
from workflow_engine.engine import reap_worker, wake, with_stage_run
from workflow_engine.errors import RetryAfter
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.lifecycle import RunStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


@pytest.mark.parametrize("behaviour", ["pends", "asks for later", "raises", "hangs"])
def test_max_wait_ends_the_suspension_whatever_the_last_poll_does(start: Start, behaviour: str) -> None:
    cleaned: list[str] = []
    released = threading.Event()

    def check(ctx: Any) -> Any:
        if behaviour == "asks for later":
            raise RetryAfter(timedelta(minutes=1))
        if behaviour == "raises":
            raise ConnectionError
        if behaviour == "hangs" and ctx.polls:
            released.wait(60)
        return Pending()

    stage = polled(
        check=check,
        max_wait=timedelta(hours=1),
        poll_timeout=timedelta(milliseconds=100),
        on_cancel=lambda ctx: cleaned.append(ctx.state),
    )
    tester, run = suspended(start, stage)
    tester.advance(timedelta(minutes=30))
    tester.run_until_idle()

    tester.advance(timedelta(minutes=31))
    tester.run_until_idle()
    released.set()

    found = stage_of(run, "waits")
    assert (found.status, found.error.code, found.polls) == (StageStatus.FAILED, "WAIT_TIMEOUT", 2)
    assert (run.status, run.snapshot().error_code, cleaned) == (RunStatus.FAILED, "WAIT_TIMEOUT", [7])


def test_what_had_come_in_time_is_taken_when_nobody_could_ask_until_after_max_wait(start: Start) -> None:
    cleaned: list[int] = []
    stage = polled(check=lambda ctx: ctx.state, max_wait=timedelta(hours=1), on_cancel=lambda _: cleaned.append(1))
    tester, run = suspended(start, stage)

    tester.advance(timedelta(days=3))
    tester.run_until_idle()

    assert (run.output(), stage_of(run, "waits").polls, cleaned) == (7, 1, [])


def test_child_runs_that_had_ended_in_time_are_taken_when_nobody_could_ask_until_after_max_wait(start: Start) -> None:
    child = chain(step("quick"), name="child")

    def execute(ctx: Any) -> Any:
        made.append(tester.create_run(child, 5))
        return replace(Suspend.until_runs(made[0]), max_wait=timedelta(hours=1))

    made: list[RunHandle[Any]] = []
    parent = chain(step("waits", execute))
    tester = start(parent, child)
    run = tester.create_run(parent, 1)
    tester.deliver()
    tester.run_until_idle()

    tester.advance(timedelta(days=3))
    tester.run_until_idle()

    assert run.output() == {made[0].id: 5}


def test_child_runs_that_are_late_fail_the_stage_that_waits_for_them(start: Start) -> None:
    child = chain(step("quick"), name="child")

    def execute(ctx: Any) -> Any:
        late = tester.create_run(child, 5, start_after=tester.now() + timedelta(days=9))
        return replace(Suspend.until_runs(late), max_wait=timedelta(seconds=70))

    parent = chain(step("waits", execute))
    tester = start(parent, child)
    run = tester.create_run(parent, 1)

    tester.run_to_end(run)

    assert (stage_of(run, "waits").error.code, stage_of(run, "waits").polls) == ("WAIT_TIMEOUT", 3)


def next_waits(tester: WorkflowTester, run: RunHandle[Any], polls: int) -> list[float | None]:
    """Poll so often, each time when it is due; return the wait that follows each poll, in seconds."""
    waits: list[float | None] = []
    for _ in range(polls):
        tester.advance(stage_of(run, "waits").next_poll_at - tester.now() + timedelta(milliseconds=1))
        before = tester.now()
        tester.run_until_idle()
        found = stage_of(run, "waits")
        waits.append(round((found.next_poll_at - before).total_seconds(), 1) if found.next_poll_at else None)
    return waits


def test_the_last_poll_comes_as_soon_as_max_wait_is_over(start: Start) -> None:
    tester, run = suspended(start, polled(poll_interval=timedelta(hours=9), max_wait=timedelta(hours=10)))

    waits = next_waits(tester, run, 2)

    assert waits[0] == pytest.approx(3600, abs=60)
    assert (waits[1], stage_of(run, "waits").error.code) == (None, "WAIT_TIMEOUT")


def test_a_poll_that_was_under_way_when_max_wait_passed_is_followed_by_the_last_one(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls == 0:
            tester.advance(timedelta(seconds=20))
            tester.sweep()
            return Pending(next_poll_in=timedelta(hours=9))
        return ctx.state

    tester, run = suspended(start, polled(check=check, max_wait=timedelta(seconds=40)))
    tester.advance(timedelta(seconds=31))

    tester.run_until_idle()

    assert (run.output(), stage_of(run, "waits").polls) == (7, 2)


def test_a_wake_up_during_the_last_poll_is_asked_for_once_more(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls:
            return ctx.state
        with_stage_run(tester.engine, ctx.stage_run_id, wake)
        return Pending()

    tester, run = suspended(start, polled(check=check, max_wait=timedelta(seconds=5)))
    tester.advance(timedelta(minutes=1))

    tester.run_until_idle()

    assert (run.output(), stage_of(run, "waits").polls) == (7, 2)


def test_a_last_poll_that_is_lost_with_its_worker_is_made_by_another(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls == 0:
            tester.advance(timedelta(hours=2))
            reap_worker(tester.engine, tester.engine.worker_id)
            tester.sweep()
        return ctx.state

    stage = polled(check=check, max_wait=timedelta(seconds=5))
    tester, run = suspended(start, stage, final_poll_grace=timedelta(hours=1))
    tester.advance(timedelta(minutes=1))

    tester.run_until_idle()

    assert (run.output(), stage_of(run, "waits").polls) == (7, 2)


@pytest.mark.parametrize("why", ["no worker", "paused"])
def test_a_last_poll_that_nobody_takes_is_given_up_after_its_grace(start: Start, why: str) -> None:
    cleaned: list[int] = []
    stage = polled(max_wait=timedelta(hours=1), on_cancel=lambda _: cleaned.append(1))
    tester, run = suspended(start, stage, final_poll_grace=timedelta(hours=2))
    if why == "paused":
        tester.pause(run.id)

    seen = []
    for _ in range(6):
        tester.advance(timedelta(minutes=50))
        tester.sweep()
        if why == "paused":
            tester.run_until_idle()
        seen.append(stage_of(run, "waits").status.value[:4])

    found = stage_of(run, "waits")
    assert seen == ["SUSP", "SUSP", "SUSP", "SUSP", "FAIL", "FAIL"]
    assert (found.error.code, found.polls) == ("WAIT_TIMEOUT", 0)
    assert "nobody took its last poll" in found.error.message
    tester.run_until_idle()
    assert cleaned == [1]


def test_a_poll_of_a_run_of_low_priority_has_its_turn_under_a_load_that_never_ends(start: Start) -> None:
    unimportant = chain(polled(check=lambda ctx: ctx.state, max_wait=timedelta(minutes=10)))
    load = chain(step("first"), step("second"), name="load")
    tester = start(unimportant, load)
    run = tester.create_run(unimportant, 1, priority=0)
    tester.deliver()
    for _ in range(20):
        tester.create_run(load, 1)
    delivered = 0

    while not run.status.is_terminal and delivered < 200:
        tester.create_run(load, 1)
        tester.advance(timedelta(seconds=1))
        tester.sweep()
        tester.deliver()
        delivered += 1

    assert (run.output(), stage_of(run, "waits").polls) == (7, 1)
    assert delivered < 200
    assert tester.messages.waiting


def test_suspensions_whose_last_poll_is_awaited_do_not_hold_up_the_others(start: Start) -> None:
    stage = polled(max_wait=timedelta(minutes=10), check=lambda ctx: ctx.state)
    workflow = chain(stage)
    tester = start(workflow, sweep_batch=1)
    runs = [tester.create_run(workflow, 1) for _ in range(3)]
    for _ in runs:
        tester.deliver()
    tester.advance(timedelta(hours=1))

    for _ in runs:
        tester.sweep()

    assert sorted(hint.priority for hint in tester.messages.waiting if hint.priority == 10) == [10, 10, 10]
