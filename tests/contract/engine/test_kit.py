"""The test kit itself: its example, its time, its refusals."""

from __future__ import annotations

import doctest
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import Pending, Suspend, WorkflowBuilder, define_async_batch_stage, define_stage
from workflow_engine.errors import RetryAfter
from workflow_engine.store.schema.tables import runs
from workflow_engine.testing import kit
from workflow_engine.testing.kit import WorkflowTester

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[..., WorkflowTester]


def one_stage(execute: Callable[[Any], Any]) -> Any:
    return WorkflowBuilder("one", input=int).pipe(define_stage(id="a", execute=execute, input=int, output=int)).build()


def test_the_example_is_true() -> None:
    results = doctest.testmod(kit)

    assert results.attempted > 0
    assert results.failed == 0


def test_time_is_turned_for_database_and_clock_and_turned_back_at_the_end(database_url: str) -> None:
    with WorkflowTester(database_url=database_url) as tester:
        before = tester.now(), tester.clock.now(), tester.clock.monotonic()
        tester.advance(timedelta(days=3))
        turned = tester.now() - before[0], tester.clock.now() - before[1], tester.clock.monotonic() - before[2]
    with WorkflowTester(database_url=database_url) as tester:
        after = tester.now()

    assert timedelta(days=3) <= min(turned[:2]) <= max(turned[:2]) < timedelta(days=3, minutes=5)
    assert 3 * 86_400 <= turned[2] < 3 * 86_400 + 300
    assert after - before[0] < timedelta(minutes=5)


def test_a_message_may_be_dropped_doubled_or_reordered(start: Start) -> None:
    workflow = one_stage(lambda ctx: ctx.input)
    tester = start(workflow)
    order = [tester.create_run(workflow, value) for value in (1, 2, 3)]
    tester.messages.waiting.reverse()
    tester.messages.waiting.pop()
    tester.messages.waiting.append(tester.messages.waiting[0])

    results = [tester.deliver().result for _ in range(3)]

    assert results == ["completed", "completed", "ignored"]
    assert [run.status.value for run in order] == ["PENDING", "COMPLETED", "COMPLETED"]


def test_without_a_message_there_is_nothing_to_deliver() -> None:
    with WorkflowTester() as tester, pytest.raises(LookupError, match="no message waits"):
        tester.deliver()


def test_run_to_end_turns_the_time_to_each_retry_and_poll(start: Start) -> None:
    def check(ctx: Any) -> Any:
        return Pending(next_poll_in=timedelta(hours=5)) if ctx.polls < 3 else ctx.attempt

    def execute(ctx: Any) -> Any:
        if ctx.attempt == 1:
            raise RetryAfter(timedelta(hours=1))
        return Suspend(1)

    waits = define_async_batch_stage(id="a", execute=execute, check=check, input=int, output=int, state=int)
    workflow = WorkflowBuilder("waits", input=int).pipe(waits).build()
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    before = tester.now()

    tester.run_to_end(run)

    assert run.output() == 2
    assert timedelta(hours=16) < tester.now() - before < timedelta(hours=16, minutes=10)


def test_a_run_that_is_held_does_not_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = one_stage(lambda ctx: ctx.input)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.pause(run.id)
    monkeypatch.setattr(kit, "MOST_STEPS", 5)

    with pytest.raises(AssertionError, match="is still PENDING after 5 retries and polls"):
        tester.run_to_end(run)


def test_a_workflow_that_never_comes_to_rest_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = one_stage(lambda ctx: len(tester.create_run("one", ctx.input).id))
    monkeypatch.setattr(kit, "MOST_STEPS", 20)
    with WorkflowTester(workflow) as tester:
        tester.create_run(workflow, 1)

        with pytest.raises(AssertionError, match="not idle after 20 steps; 1 messages wait"):
            tester.run_until_idle()


def test_inconsistent_records_are_noticed_after_the_step_if_asked() -> None:
    workflow = one_stage(lambda ctx: ctx.input)
    with WorkflowTester(workflow, check=True) as tester:
        tester.create_run(workflow, 1)
        tester.database.transact(lambda tx: tx.execute(runs.update().values(event_sequence=7)))

        with pytest.raises(AssertionError, match="16 events are numbered"):
            tester.sweep()


def test_a_sweep_with_a_broken_step_is_an_error_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = one_stage(lambda ctx: ctx.input)
    with WorkflowTester(workflow) as tester:
        tester.create_run(workflow, 1)
        monkeypatch.setattr(tester.messages, "empty_lists", lambda _: 1 // 0)

        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            tester.sweep()
