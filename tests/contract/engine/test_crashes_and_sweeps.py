"""Workers that die, stop or do not fit; messages that are lost; and what the sweep does about it."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine.definition import (
    Pending,
    Retry,
    Suspend,
    define_async_batch_stage,
)
from workflow_engine.engine import reap_worker, release_worker, sweep
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.connection.database import Database
from workflow_engine.store.records import AttemptOutcome
from workflow_engine.store.upkeep.overdue import begin_tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester
    from workflow_engine.testing.services import PostgresServer

    Start = Callable[..., WorkflowTester]


def die(tester: WorkflowTester) -> None:
    """Let the worker that executes now be known to be dead."""
    reap_worker(tester.engine, tester.engine.worker_id)


def test_a_lease_that_ran_out_is_given_to_others_and_counts_as_a_crash(start: Start) -> None:
    def body(ctx: Any) -> int:
        if ctx.attempt == 1:
            tester.advance(timedelta(seconds=31))
            tester.sweep()
        return int(ctx.attempt)

    workflow = chain(step("a", body, retry=Retry(max_attempts=1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    performed = tester.deliver()
    tester.run_to_end(run)

    found = stage_of(run)
    assert (performed.result, run.output(), found.attempt, found.crashes) == ("discarded", 2, 2, 1)
    outcomes = [one.outcome for one in tester.list_attempts(run.id, "a")]
    assert outcomes == [AttemptOutcome.LOST, AttemptOutcome.COMPLETED]


def test_a_lease_that_was_renewed_is_not_reaped(start: Start) -> None:
    def body(_: Any) -> int:
        for _half in range(4):
            tester.advance(timedelta(seconds=20))
            tester.engine.keeper.renew()
            tester.sweep()
        return 1

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    assert tester.deliver().result == "completed"
    assert stage_of(run).crashes == 0


def test_a_poison_stage_ends_after_max_crashes_and_is_spaced(start: Start) -> None:
    def body(_: Any) -> int:
        die(tester)
        return 1

    workflow = chain(step("a", body, max_crashes=4, retry=Retry(max_attempts=1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    waits = []
    while not run.status.is_terminal:
        tester.run_until_idle()
        found = stage_of(run)
        if found.status is StageStatus.PENDING:
            waits.append(round((found.available_at - tester.now()).total_seconds(), -1))
            tester.advance(timedelta(seconds=waits[-1] + 10))

    found = stage_of(run)
    assert (found.status, found.error.code, found.attempt, found.crashes) == (StageStatus.FAILED, "WORKER_LOST", 4, 4)
    assert "lost its worker 4 times" in found.error.message
    assert waits == [30, 60]


def test_crashes_and_failures_have_budgets_of_their_own(start: Start) -> None:
    def body(ctx: Any) -> int:
        if ctx.attempt in {1, 3}:
            die(tester)
            return 0
        raise ConnectionError

    workflow = chain(step("a", body, max_crashes=3, retry=Retry(max_attempts=3)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    found = stage_of(run)
    assert (found.error.code, found.attempt, found.crashes) == ("STAGE_ERROR", 5, 2)


def test_a_released_stage_has_not_burnt_an_attempt(start: Start) -> None:
    def body(ctx: Any) -> str:
        if ctx.fence == 1:
            assert release_worker(tester.engine, tester.engine.worker_id) == 1
        return f"attempt {ctx.attempt}"

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    first = tester.deliver().result
    sent = len(tester.messages.waiting)
    tester.run_until_idle()

    assert (first, sent, run.output(), stage_of(run).crashes) == ("discarded", 1, "attempt 1", 0)
    assert release_worker(tester.engine, tester.engine.worker_id) == 0


def test_a_released_poll_is_due_again_at_once(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls == 0:
            release_worker(tester.engine, tester.engine.worker_id)
        return ctx.state

    waits = define_async_batch_stage(
        id="a", execute=lambda _: Suspend(7), check=check, input=int, output=int, state=int
    )
    workflow = chain(waits)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    tester.advance(timedelta(seconds=31))

    tester.run_until_idle()

    assert (run.output(), stage_of(run).polls) == (7, 2)


def test_only_the_workers_that_are_named_are_reaped_or_released(start: Start) -> None:
    def body(_: Any) -> int:
        ours = tester.engine.worker_id
        return reap_worker(tester.engine, "other:1:") + release_worker(tester.engine, ours + "x")

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_until_idle()

    assert run.output() == 0


def test_after_an_absence_live_workers_renew_first_and_a_slow_sweeper_reaps_all_the_same(start: Start) -> None:
    def body(ctx: Any) -> int:
        if ctx.attempt == 1:
            tester.sweep(force=False)
            for _ in range(3):
                tester.advance(timedelta(seconds=40))
                reaped.append(tester.sweep(force=False).repaired.get("reaped", 0))
        return 1

    reaped: list[int] = []
    workflow = chain(step("a", body))
    tester = start(workflow)
    tester.create_run(workflow, 1)

    tester.deliver()

    assert reaped == [0, 1, 0]


def test_of_two_sweeps_in_a_row_the_second_leaves_it_at_that(start: Start) -> None:
    tester = start(chain(step("a")))

    skipped = [tester.sweep(force=False).skipped for _ in range(2)]
    tester.advance(timedelta(seconds=3))
    skipped.append(tester.sweep(force=False).skipped)

    assert skipped == [False, True, False]


class Overtaken:
    """A transaction that another sweep overtakes between its first look and its first write."""

    def __init__(self, tx: Any, overtake: Callable[[], Any]) -> None:
        self.tx, self.overtake, self.statements = tx, overtake, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tx, name)

    def execute(self, statement: Any) -> Any:
        result = self.tx.execute(statement)
        self.statements += 1
        if self.statements == 1:
            self.overtake()
        return result


def test_of_two_first_sweeps_at_once_one_leaves_it_at_that(
    postgres_server: PostgresServer, migrated_postgres: str
) -> None:
    url = postgres_server.create_database(template=migrated_postgres)
    database = Database(url)

    def begin(tx: Any) -> int | None:
        return begin_tick(tx, "sweep", interval_ms=5000, lease_ms=30_000)

    def overtake() -> None:
        won.append(database.transact(begin))

    won: list[int | None] = []
    lost = database.transact(lambda tx: begin(Overtaken(tx, overtake)))
    database.close()
    postgres_server.drop_database(url.rpartition("/")[2])

    assert (won, lost) == ([0], None)


def test_a_sweep_whose_step_fails_does_the_others(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = chain(step("a"), deadline=timedelta(minutes=1))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.advance(timedelta(minutes=2))
    module = importlib.import_module(
        "workflow_engine.engine.upkeep.sweep"
    )  # the package exports a function of that name
    monkeypatch.setattr(module, "expire_queued", lambda _: 1 // 0)

    report = sweep(tester.engine, force=True)

    assert list(report.errors) == ["queue_timeouts"]
    assert (report.repaired["deadlines_passed"], run.status) == (1, RunStatus.FAILED)


def test_lost_messages_are_sent_again_and_late_ones_are_harmless(start: Start) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    [lost] = tester.messages.waiting
    tester.messages.waiting.clear()
    at_once = tester.sweep().repaired
    tester.advance(timedelta(seconds=25))

    tester.sweep()
    [again] = tester.messages.waiting
    tester.run_until_idle()
    late = tester.deliver(lost).result

    assert (at_once, again.priority, again.dispatch_number) == ({}, 10, 2)
    assert (run.output(), late) == (1, "ignored")


@pytest.mark.parametrize(("lost", "claimed", "is_proof"), [(9, 2, True), (5, 5, True), (2, 9, False)])
def test_a_claim_tells_what_was_lost_of_its_list_and_of_more_important_ones_though_none_is_known_to_be_empty(
    start: Start, monkeypatch: pytest.MonkeyPatch, *, lost: int, claimed: int, is_proof: bool
) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    monkeypatch.setattr(tester.messages, "empty_lists", lambda _: set())
    run = tester.create_run(workflow, 1, priority=lost)
    tester.messages.waiting.clear()
    tester.advance(timedelta(seconds=25))
    without_a_claim = tester.sweep().repaired

    tester.create_run(workflow, 2, priority=claimed)
    tester.deliver()
    repaired = tester.sweep().repaired
    tester.run_until_idle()

    assert without_a_claim == {}
    assert repaired == ({"dispatched": 1} if is_proof else {})
    assert run.status is (RunStatus.COMPLETED if is_proof else RunStatus.PENDING)


def test_nothing_is_sent_while_the_broker_does_not_answer(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    tester.messages.is_reachable = False
    run = tester.create_run(workflow, 1)
    tester.advance(timedelta(minutes=10))
    while_down = tester.sweep().repaired

    tester.messages.is_reachable = True
    tester.run_until_idle()

    assert (while_down, run.output()) == ({}, 1)


def test_a_fitting_worker_ends_the_time_of_mismatches(start: Start) -> None:
    def check(ctx: Any) -> Any:
        return ctx.state if ctx.polls > 2 else Pending()

    waits = define_async_batch_stage(
        id="a", execute=lambda _: Suspend(7), check=check, input=int, output=int, state=int,
        poll_interval=timedelta(hours=1),
    )  # fmt: skip
    workflow = chain(waits)
    tester = start(workflow)
    old_worker = tester.new_engine([chain(step("b"))])
    run = tester.create_run(workflow, 1)

    for _ in range(6):  # a worker of the old release takes every second message
        if not run.status.is_terminal:
            tester.deliver(engine=old_worker)
            tester.advance(timedelta(seconds=1))
            tester.run_until_idle()
            tester.advance(timedelta(hours=1))
            tester.sweep()

    assert run.output() == 7


def test_a_registry_that_raises_is_a_worker_that_does_not_fit(start: Start) -> None:
    class Broken:
        def get_workflow(self, workflow_id: str, /) -> Any:
            raise ConnectionError(workflow_id)

    workflow = chain(step("a"))
    tester = start(workflow)
    broken = tester.new_engine(Broken())
    run = tester.create_run(workflow, 1)

    performed = tester.deliver(engine=broken)
    tester.run_to_end(run)

    assert (performed.result, run.output()) == ("mismatched", 1)
