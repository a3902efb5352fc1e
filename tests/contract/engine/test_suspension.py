"""Waiting on something outside: polls, their waits, their errors, their end."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, polled, stage_of, step, suspended
from workflow_engine.definition import (
    GroupOutput,
    Pending,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
)
from workflow_engine.engine import reap_worker, wake, with_stage_run
from workflow_engine.errors import RetryAfter
from workflow_engine.events import EventType
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.lifecycle import RunStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def test_a_suspension_that_nothing_would_end_fails_at_once_and_is_not_tried_again(start: Start) -> None:
    tester, run = suspended(start, step("waits", lambda _: Suspend(7)))

    failed = stage_of(run, "waits")
    assert (failed.status, failed.attempt) == (StageStatus.FAILED, 1)
    assert "returned Suspend but has no poll to end it; pass poll=" in failed.error.message
    assert tester.messages.waiting == []


def test_several_members_of_a_group_wait_side_by_side_and_the_last_one_lets_the_run_go_on(start: Start) -> None:
    ready: set[str] = set()

    def check(ctx: Any) -> Any:
        return ctx.state if ctx.stage_id in ready else Pending()

    after = step("after", lambda ctx: sum(ctx.input.values()), takes=GroupOutput)
    members = tuple(polled(name, check) for name in "abc")
    tester, run = suspended(start, members, after)
    shown = run.status

    seen = []
    for name in "bca":
        ready.add(name)
        tester.advance(timedelta(seconds=31))
        tester.run_until_idle()
        seen.append([one.status.value[:4] for one in run.list_stages()])

    assert shown is RunStatus.SUSPENDED
    assert seen == [["SUSP", "COMP", "SUSP"], ["SUSP", "COMP", "COMP"], ["COMP", "COMP", "COMP", "COMP"]]
    assert run.output() == 21


def test_completed_siblings_of_a_suspended_member_never_run_again(start: Start) -> None:
    calls: list[str] = []

    def look(ctx: Any) -> int:
        calls.append("quick")
        return int(ctx.input)

    ready: list[bool] = []
    waits = define_async_batch_stage(
        id="waits",
        execute=lambda _: Suspend(0),
        check=lambda _: 1 if ready else Pending(),
        input=int,
        output=int,
        state=int,
    )
    quick = step("quick", look)
    after = step("after", lambda ctx: len(ctx.input), takes=GroupOutput)
    workflow = WorkflowBuilder("group", input=int).parallel(waits, quick).pipe(after).build()
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    tester.advance(timedelta(minutes=1))
    tester.run_until_idle()

    ready.append(True)
    tester.run_to_end(run)

    assert (calls, run.output()) == (["quick"], 2)


def test_a_poll_may_replace_the_state_and_tell_its_progress(start: Start) -> None:
    def check(ctx: Any) -> Any:
        ctx.log.info("poll", state=ctx.state, polls=ctx.polls)
        return ctx.state if ctx.state == 9 else Pending(state=ctx.state + 1, progress=0.5, message="half")

    tester, run = suspended(start, polled(check=check))

    tester.run_to_end(run)

    assert run.output() == 9
    assert [(line.fields["state"], line.fields["polls"]) for line in run.list_logs().items] == [(7, 0), (8, 1), (9, 2)]
    progress = [event.payload["message"] for event in run.list_events() if event.type is EventType.STAGE_PROGRESS]
    assert progress == ["half", "half"]


def test_numbers_of_body_and_polls_add_up(start: Start) -> None:
    def execute(ctx: Any) -> Any:
        ctx.report(cost=1, tokens=5, submitted=3, rows=1)
        return Suspend(7, metrics={"batches": 1})

    def check(ctx: Any) -> Any:
        ctx.report(cost=1, tokens=5, rows=2)
        return Pending(metrics={"checks": 1}) if ctx.polls < 2 else 1

    tester, run = suspended(start, polled(execute=execute, check=check))

    tester.run_to_end(run)

    found = stage_of(run, "waits")
    assert (found.cost, found.tokens) == (4, 20)
    assert found.metrics == {"submitted": 3, "rows": 7, "batches": 1, "checks": 2}


def test_a_poll_may_ask_for_its_next_time_but_not_below_the_floor(start: Start) -> None:
    delays = [timedelta(hours=1), timedelta(0), timedelta.max]

    def check(ctx: Any) -> Any:
        raise RetryAfter(delays[ctx.polls])

    tester, run = suspended(start, polled(check=check, max_wait=timedelta(days=36_000)))
    waits = []
    for _ in delays:
        tester.advance(stage_of(run, "waits").next_poll_at - tester.now() + timedelta(milliseconds=1))
        before = tester.now()
        tester.sweep()
        tester.deliver()
        waits.append(stage_of(run, "waits").next_poll_at - before)

    assert timedelta(hours=1) <= waits[0] < timedelta(hours=1, seconds=20)
    assert timedelta(milliseconds=100) <= waits[1] < timedelta(seconds=20)
    assert waits[2] < timedelta(days=36_501)


def test_a_poll_that_hangs_is_cut_off_and_polled_again(start: Start) -> None:
    released = threading.Event()

    def check(ctx: Any) -> Any:
        if ctx.polls == 0:
            released.wait(60)
        return ctx.state

    tester, run = suspended(start, polled(check=check, poll_timeout=timedelta(milliseconds=50)))

    tester.run_to_end(run)
    released.set()

    assert (run.output(), stage_of(run, "waits").polls) == (7, 2)


@pytest.mark.parametrize("answer", ["seven", Suspend(1), object()])
def test_a_poll_that_answers_nonsense_fails_the_stage(start: Start, answer: Any) -> None:
    tester, run = suspended(start, polled(check=lambda _: answer))

    tester.run_to_end(run)

    assert stage_of(run, "waits").status is StageStatus.FAILED
    assert stage_of(run, "waits").polls == 1


def test_a_suspended_state_that_violates_its_schema_fails_the_stage_at_once(start: Start) -> None:
    tester, run = suspended(start, polled(suspend=Suspend("x")))

    found = stage_of(run, "waits")

    assert (found.status, found.error.code, found.attempt) == (StageStatus.FAILED, "INVALID_DATA", 1)
    assert tester.messages.waiting == []


def test_a_wake_up_polls_at_once(start: Start) -> None:
    tester, run = suspended(start, polled(check=lambda ctx: ctx.state, poll_interval=timedelta(hours=9)))

    assert with_stage_run(tester.engine, stage_of(run, "waits").id, wake)
    tester.deliver()

    assert run.output() == 7


def test_a_wake_up_while_the_body_runs_is_not_lost(start: Start) -> None:
    def execute(ctx: Any) -> Any:
        with_stage_run(tester.engine, ctx.stage_run_id, wake)
        return Suspend(7)

    workflow = chain(polled(execute=execute, check=lambda ctx: ctx.state, poll_interval=timedelta(hours=9)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_until_idle()

    assert run.output() == 7


def test_a_wake_up_while_a_poll_runs_is_not_lost(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls:
            return ctx.state
        with_stage_run(tester.engine, ctx.stage_run_id, wake)
        return Pending(next_poll_in=timedelta(hours=9))

    tester, run = suspended(start, polled(check=check))
    tester.advance(timedelta(seconds=31))

    tester.run_until_idle()

    assert run.output() == 7


def test_a_wake_up_counts_once(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls == 0:
            with_stage_run(tester.engine, ctx.stage_run_id, wake)
        return Pending()

    tester, run = suspended(start, polled(check=check))
    tester.advance(timedelta(seconds=31))

    tester.run_until_idle()

    assert stage_of(run, "waits").polls == 2


def test_a_lost_poll_is_given_to_others_and_counts_on_its_own(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls < 2:
            reap_worker(tester.engine, tester.engine.worker_id)
        return ctx.state

    tester, run = suspended(start, polled(check=check))

    tester.run_to_end(run)

    found = stage_of(run, "waits")
    assert (run.output(), found.polls, found.attempt, found.crashes) == (7, 3, 1, 0)


def test_a_poll_that_takes_its_workers_down_ends(start: Start) -> None:
    def check(_: Any) -> Any:
        reap_worker(tester.engine, tester.engine.worker_id)
        return 7

    tester, run = suspended(start, polled(check=check, max_crashes=2))

    tester.run_to_end(run)

    found = stage_of(run, "waits")
    assert (found.status, found.error.code, found.polls) == (StageStatus.FAILED, "WORKER_LOST", 2)


def test_a_poll_is_not_made_before_its_time_or_twice_at_once(start: Start) -> None:
    def check(ctx: Any) -> Any:
        doubled.append(tester.deliver(message).result)
        return ctx.state

    doubled: list[str] = []
    tester, run = suspended(start, polled(check=check))
    early = tester.deliver(message_for(tester, run)).result
    tester.advance(timedelta(seconds=31))
    tester.sweep()
    [message] = tester.messages.waiting

    tester.deliver()

    assert (early, doubled, run.output()) == ("ignored", ["ignored"], 7)


def message_for(tester: WorkflowTester, run: RunHandle[Any]) -> Any:
    [(hint, _delay)] = [(hint, delay) for hint, delay in tester.messages.later if hint.run_id == run.id]
    return hint
