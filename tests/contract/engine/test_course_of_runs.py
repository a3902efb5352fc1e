"""How runs go on, wait, fail and end, and what is told about them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine.definition import (
    GroupOutput,
    Pending,
    Retry,
    Suspend,
    define_async_batch_stage,
)
from workflow_engine.errors import InvalidPriorityError, RetryAfter
from workflow_engine.events import EventType
from workflow_engine.lifecycle import RunStatus, StageStatus

ONCE = Retry(max_attempts=1)

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def noting(seen: list[Any], item: Any, result: Any) -> Any:
    seen.append(item)
    return result


def polled(name: str = "waits", check: Callable[..., Any] = lambda _: Pending(), **options: Any) -> Any:
    suspend = options.pop("suspend", Suspend(7))
    return define_async_batch_stage(
        id=name, execute=lambda _: suspend, check=check, input=int, output=Any, state=int, **options
    )


def fails(_: Any) -> int:
    raise ValueError("never works")


def test_siblings_that_run_keep_their_outputs_and_the_run_fails_with_the_first_error(start: Start) -> None:
    def slow(ctx: Any) -> str:
        tester.deliver()  # the sibling fails while this one runs
        return "kept"

    workflow = chain(
        (step("slow", slow), step("bad", fails, retry=ONCE)), step("after", lambda _: 1, takes=GroupOutput)
    )
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_until_idle()

    assert tester.get_stage_output(run.id, "slow") == "kept"
    assert (run.status, run.snapshot().failed_stage_id) == (RunStatus.FAILED, "bad")
    assert [one.stage_id for one in run.list_stages()] == ["slow", "bad"]


def test_a_member_that_waits_for_its_retry_keeps_the_next_group_unborn(start: Start) -> None:
    def flaky(ctx: Any) -> int:
        if ctx.attempt == 1:
            raise ConnectionError
        return 1

    workflow = chain((step("good"), step("flaky", flaky)), step("after", lambda _: 1, takes=GroupOutput))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_until_idle()
    while_waiting = ([one.stage_id for one in run.list_stages()], run.status)
    tester.run_to_end(run)

    assert while_waiting == (["good", "flaky"], RunStatus.RUNNING)
    assert run.status is RunStatus.COMPLETED


def test_a_deadline_ends_the_run_and_everything_in_it(start: Start) -> None:
    workflow = chain((polled(), step("late", fails)), deadline=timedelta(hours=1))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()

    tester.advance(timedelta(hours=1, seconds=1))
    tester.sweep()

    assert (run.status, run.snapshot().error_code) == (RunStatus.FAILED, "DEADLINE")
    assert {one.status for one in run.list_stages()} == {StageStatus.CANCELLED}


def test_a_run_that_passes_its_deadline_while_it_drains_keeps_the_first_error(start: Start) -> None:
    def slow(_: Any) -> int:
        tester.deliver()
        tester.advance(timedelta(hours=2))
        tester.engine.keeper.renew()
        tester.sweep()
        return 1

    workflow = chain((step("slow", slow), step("bad", fails, retry=ONCE)), deadline=timedelta(hours=1))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver()

    assert (run.snapshot().error_code, run.snapshot().error_message) == ("STAGE_ERROR", "never works")


def wait_of(stage: Any) -> float:
    return float((stage.next_poll_at - stage.suspended_at).total_seconds())


def test_the_wait_is_the_answers_else_the_suspensions_else_the_stages_else_the_default(start: Start) -> None:
    def check(ctx: Any) -> Any:
        return Pending(next_poll_in=timedelta(seconds=90)) if ctx.polls == 0 else Pending()

    chosen = Suspend(7, poll_interval=timedelta(seconds=20))
    workflow = chain(
        (
            polled("answer", check, suspend=chosen, poll_interval=timedelta(seconds=40)),
            polled("stage", poll_interval=timedelta(seconds=40)),
            polled("default"),
            polled("floor", suspend=Suspend(1, poll_interval=timedelta(microseconds=1))),
        )
    )
    tester = start(workflow, poll_interval=timedelta(seconds=60))
    run = tester.create_run(workflow, 1)
    for _ in range(4):
        tester.deliver()
    first = {one.stage_id: wait_of(one) for one in run.list_stages()}
    tester.advance(timedelta(seconds=20))
    tester.sweep()
    answer = next(hint for hint in tester.messages.waiting if hint.stage_id == "answer")
    before = tester.now()
    tester.deliver(answer)
    later = stage_of(run, "answer").next_poll_at - before

    assert first == {"answer": 20, "stage": 40, "default": 60, "floor": 0.1}
    assert timedelta(seconds=90) <= later < timedelta(seconds=95)


def test_a_poll_that_is_done_dispatches_the_next_group_and_does_not_run_it(start: Start) -> None:
    entered: list[str] = []
    workflow = chain(polled(check=lambda ctx: ctx.state), step("after", lambda ctx: noting(entered, "x", ctx.input)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    tester.advance(timedelta(seconds=31))
    tester.sweep()

    tester.deliver()

    assert entered == []
    assert [hint.stage_id for hint in tester.messages.waiting] == ["after"]
    tester.run_until_idle()
    assert run.output() == 7


def test_what_waits_for_a_cause_is_not_stuck_however_long_it_takes(start: Start) -> None:
    def flaky(ctx: Any) -> int:
        raise RetryAfter(timedelta(days=30))

    workflow = chain((polled(max_wait=timedelta(days=60), poll_interval=timedelta(days=50)), step("later", flaky)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    for _ in range(5):
        tester.advance(timedelta(days=5))
        tester.sweep()

    assert tester.messages.waiting == []
    assert [one.status for one in run.list_stages()] == [StageStatus.SUSPENDED, StageStatus.PENDING]


def test_cancel_is_authoritative_and_a_late_result_is_discarded(start: Start) -> None:
    def body(ctx: Any) -> int:
        ctx.log.info("before")
        run.cancel(reason="wrong document")
        ctx.log.info("after")
        return 1

    workflow = chain((step("a", body), polled()), step("after", lambda _: 1, takes=GroupOutput))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    performed = tester.deliver()
    tester.run_until_idle()

    assert performed.result == "discarded"
    assert (run.status, {one.status for one in run.list_stages()}) == (RunStatus.CANCELLED, {StageStatus.CANCELLED})
    assert [line.message for line in run.list_logs().items] == ["before", "after"]
    assert [e.payload for e in run.list_events() if e.type is EventType.RUN_CANCELLED] == [{"reason": "wrong document"}]


def test_more_important_runs_go_first_and_equal_ones_in_order(start: Start) -> None:
    seen: list[int] = []
    workflow = chain(step("a", lambda ctx: noting(seen, ctx.input, 0)))
    tester = start(workflow)
    for value, priority in ((1, 5), (2, 0), (3, 10), (4, 5), (5, 10)):
        tester.create_run(workflow, value, priority=priority)

    tester.run_until_idle()

    assert seen == [3, 5, 1, 4, 2]


@pytest.mark.parametrize("priority", [-1, 11, 5.0, "5", True])
def test_a_priority_out_of_range_is_refused_naming_the_range(start: Start, priority: Any) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)

    with pytest.raises(InvalidPriorityError, match=r"from 0 .* to 10"):
        tester.create_run(workflow, 1, priority=priority)

    assert tester.list_runs().items == ()


def test_a_worker_without_the_stage_gives_it_back_and_one_that_has_it_goes_on(start: Start) -> None:
    workflow, other = chain(step("a")), chain(step("b"))
    tester = start(workflow)
    old_worker = tester.new_engine([other])
    run = tester.create_run(workflow, 1)

    performed = tester.deliver(engine=old_worker)
    after = stage_of(run, "a")
    tester.run_to_end(run)

    assert (performed.result, after.status, after.attempt) == ("mismatched", StageStatus.PENDING, 0)
    assert run.output() == 1


def test_after_the_grace_it_fails_naming_both_sides(start: Start) -> None:
    workflow, other = chain(step("a")), chain(step("b"))
    tester = start(workflow)
    old_worker = tester.new_engine([other])
    run = tester.create_run(workflow, 1)

    for _ in range(30):
        tester.advance(timedelta(minutes=1))
        tester.sweep()
        while tester.messages.waiting:
            tester.deliver(engine=old_worker)

    snapshot = run.snapshot()
    assert (snapshot.status, snapshot.error_code) == (RunStatus.FAILED, "DEFINITION_MISMATCH")
    assert '"a" is in the plan of the run but not in workflow "chain"' in str(snapshot.error_message)
    assert "(stages: b)" in str(snapshot.error_message)


def test_storage_is_scoped_to_run_and_stage_and_a_shared_scope_is_explicit(start: Start) -> None:
    def write(ctx: Any) -> int:
        ctx.storage.save("note.json", [ctx.run_id, ctx.stage_id])
        ctx.storage.shared.save(f"{ctx.stage_id}.json", ctx.input)
        return int(ctx.input)

    def read(ctx: Any) -> list[Any]:
        return [ctx.storage.list(), ctx.storage.shared.list(), ctx.storage.shared.load("a.json")]

    workflow = chain(step("a", write), step("b", read))
    tester = start(workflow)

    runs = [tester.create_run(workflow, value) for value in (1, 2)]
    tester.run_until_idle()

    assert [run.output() for run in runs] == [[[], ["a.json"], 1], [[], ["a.json"], 2]]
    assert tester.get_artifact(runs[0].id, "note.json", stage="a") == [runs[0].id, "a"]


def test_logs_are_kept_in_order_also_when_the_stage_raises(start: Start) -> None:
    def body(ctx: Any) -> int:
        for number in range(450):
            ctx.log.info("line", number=number)
        raise ValueError

    workflow = chain(step("a", body, retry=ONCE))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    *lines, failure = run.list_logs().items
    assert [line.fields["number"] for line in lines] == list(range(450))
    assert failure.message.startswith("attempt 1 failed: ValueError")


def test_cost_is_the_sum_of_the_runs_own_reports(start: Start) -> None:
    def spend(ctx: Any) -> int:
        ctx.report(cost=Decimal("0.000000001"), tokens=ctx.input)
        if ctx.attempt == 1:
            raise ConnectionError
        return int(ctx.input)

    workflow = chain((step("a", spend), step("b", spend)))
    tester = start(workflow)

    runs = [tester.create_run(workflow, value) for value in (1, 10)]
    for run in runs:
        tester.run_to_end(run)

    totals = [(run.snapshot().total_cost, run.snapshot().total_tokens) for run in runs]
    assert totals == [(Decimal("4E-9"), 4), (Decimal("4E-9"), 40)]


def test_events_are_numbered_and_a_subscriber_goes_on_where_it_was(start: Start) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    seen = run.list_events()

    tester.run_until_idle()
    rest = run.list_events(after_sequence=seen[-1].sequence)

    assert [event.sequence for event in seen + rest] == list(range(1, 8))
    assert [str(event.type) for event in seen + rest] == [
        "run.created", "run.started", "stage.started", "stage.completed", "stage.started", "stage.completed",
        "run.completed",
    ]  # fmt: skip


def test_an_error_is_kept_on_the_stage_run_and_pointed_to_by_the_run(start: Start) -> None:
    workflow = chain(step("a", fails, retry=ONCE))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    error, snapshot = stage_of(run, "a").error, run.snapshot()
    assert (error.code, error.type, error.message) == ("STAGE_ERROR", "ValueError", "never works")
    assert 'raise ValueError("never works")' in error.traceback
    assert (snapshot.failed_stage_id, snapshot.error_message) == ("a", "never works")
    assert snapshot.completed_at is not None
    ends = {EventType.RUN_COMPLETED, EventType.RUN_FAILED, EventType.RUN_CANCELLED}
    assert [event.type for event in run.list_events() if event.type in ends] == [EventType.RUN_FAILED]


def test_secrets_do_not_reach_logs_events_errors_or_messages(start: Start) -> None:
    def leak(ctx: Any) -> int:
        ctx.log.info("calling with api_key=hunter2", headers={"Authorization": "hunter2"})
        ctx.progress(0.1, "password=hunter2", token="hunter2")  # noqa: S106 - what is to be redacted
        raise ValueError("refused: secret=hunter2")

    workflow = chain(step("a", leak, retry=ONCE))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    shown = repr(tester.messages.waiting)
    tester.run_until_idle()

    told = (run.list_logs().items, run.list_events(), run.snapshot().error_message, stage_of(run, "a").error.message)
    assert "hunter2" not in shown + repr(told)
    assert repr(told).count("[redacted]") >= 5


def test_leases_and_due_times_are_the_databases_and_a_hosts_clock_changes_nothing(start: Start) -> None:
    workflow = chain(polled(check=lambda ctx: ctx.state))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()

    tester.clock.skew += timedelta(days=1)
    tester.sweep()
    by_host = list(tester.messages.waiting)
    tester.clock.skew -= timedelta(days=1)
    tester.run_to_end(run)

    assert by_host == []
    assert run.output() == 7
