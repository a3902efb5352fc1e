"""The database is away while a stage executes: what was done is not done again, and nobody fails for it."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, step
from workflow_engine.definition import (
    NoInput,
    Pending,
    Retry,
    Suspend,
    define_async_batch_stage,
    define_stage,
)
from workflow_engine.errors import DatabaseTimeoutError, DatabaseUnavailableError
from workflow_engine.store.moves.leases import is_held
from workflow_engine.store.records import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

LEASE = timedelta(seconds=30)
execute_module: Any = importlib.import_module("workflow_engine.engine.execution.execute_stage")


class Absence:
    """Every call of the database raises for a while; sleeping makes the while pass."""

    def __init__(self, tester: WorkflowTester, patch: pytest.MonkeyPatch) -> None:
        self._clock = tester.clock
        self._until = 0.0
        self._error: Exception = DatabaseUnavailableError("away")
        self.refused = 0
        for name in ("read", "transact", "execute_one"):
            patch.setattr(tester.database, name, self._guard(getattr(tester.database, name)))

    def begin(self, duration: timedelta, error: Exception | None = None) -> None:
        self._until = self._clock.monotonic() + duration.total_seconds()
        self._error = error or self._error

    def _guard(self, method: Any) -> Any:
        def call(work: Any, **options: Any) -> Any:
            if self._clock.monotonic() < self._until:
                self.refused += 1
                raise self._error
            return method(work, **options)

        return call


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Callable[[WorkflowTester], Absence]:
    return lambda tester: Absence(tester, monkeypatch)


@pytest.mark.parametrize("duration", [timedelta(seconds=5), timedelta(minutes=5)], ids=["short", "longer than leases"])
@pytest.mark.parametrize("outcome", ["completed", "failed", "retrying", "suspended"])
def test_an_outcome_waits_for_the_database_and_its_body_runs_once(
    start: Start, absent: Any, outcome: str, duration: timedelta
) -> None:
    bodies: list[int] = []

    def body(ctx: Any) -> Any:
        bodies.append(ctx.attempt)
        absence.begin(duration)
        if outcome == "suspended":
            return Suspend(1)
        if outcome != "completed":
            raise KeyError if outcome == "failed" else ConnectionError
        return 1

    one = define_async_batch_stage(
        id="a", execute=body, check=lambda _: Pending(), input=int, output=int, state=int,
        retry=Retry(give_up_on=(KeyError,)),
    )  # fmt: skip
    tester = start(chain(one))
    absence = absent(tester)
    run = tester.create_run("chain", 1)

    performed = tester.deliver()

    [attempt] = tester.list_attempts(run.id, "a")
    expected = {"retrying": "failed"}.get(outcome, outcome)
    assert (performed.result, bodies, absence.refused > 0) == (outcome, [1], True)
    assert attempt.outcome is AttemptOutcome(expected.upper())


def test_an_outcome_waits_for_a_database_that_is_too_slow(start: Start, absent: Any) -> None:
    def body(_: Any) -> int:
        absence.begin(timedelta(seconds=5), DatabaseTimeoutError("complete"))
        return 1

    tester = start(chain(step("a", body)))
    absence = absent(tester)
    run = tester.create_run("chain", 1)

    assert tester.deliver().result == "completed"
    assert len(tester.list_attempts(run.id, "a")) == 1


def test_an_outcome_does_not_wait_for_ever(start: Start, absent: Any) -> None:
    def body(_: Any) -> int:
        absence.begin(timedelta(days=1))
        return 1

    tester = start(chain(step("a", body)))
    absence = absent(tester)
    tester.create_run("chain", 1)

    with pytest.raises(DatabaseUnavailableError):
        tester.deliver()

    absence.begin(timedelta(0))


def test_a_body_that_reads_and_writes_what_is_stored_does_not_notice_a_short_absence(start: Start, absent: Any) -> None:
    first = step("first")

    def body(ctx: Any) -> list[Any]:
        absence.begin(timedelta(seconds=20))
        seen = [ctx.require(first)]
        absence.begin(timedelta(seconds=20))
        ctx.storage.save("key", 5)
        absence.begin(timedelta(seconds=20))
        seen.append(ctx.storage.load("key"))
        absence.begin(timedelta(seconds=20))
        return [*seen, ctx.storage.exists("key")]

    last = define_stage(id="last", execute=body, input=NoInput, output=list)
    tester = start(chain(first, step("between"), last))
    absence = absent(tester)
    run = tester.create_run("chain", 7)

    tester.run_until_idle()

    assert run.output() == [7, 5, True]
    assert len(tester.list_attempts(run.id, "last")) == 1


@pytest.mark.parametrize("error", [DatabaseUnavailableError("away"), DatabaseTimeoutError("read_outputs")])
def test_a_body_that_fails_for_the_database_is_tried_again_whatever_its_retry_names(
    start: Start, absent: Any, error: Exception
) -> None:
    first = step("first")

    def body(ctx: Any) -> int:
        if ctx.attempt == 1:
            absence.begin(timedelta(minutes=2), error)
        return int(ctx.require(first))

    last = define_stage(id="last", execute=body, input=NoInput, output=int, retry=Retry(retry_on=(KeyError,)))
    tester = start(chain(first, step("between"), last))
    absence = absent(tester)
    run = tester.create_run("chain", 7)

    tester.run_to_end(run)

    assert run.output() == 7
    assert len(tester.list_attempts(run.id, "last")) == 2


def test_a_poll_that_fails_for_the_database_is_made_again(start: Start, absent: Any) -> None:
    def poll(ctx: Any) -> Any:
        if ctx.polls == 0:
            absence.begin(timedelta(minutes=2))
        return ctx.require(first)

    first = step("first")
    batch = define_async_batch_stage(
        id="batch", execute=lambda _: Suspend(1), check=poll, input=int, output=int, state=int
    )
    tester = start(chain(first, step("between"), batch))
    absence = absent(tester)
    run = tester.create_run("chain", 7)

    tester.run_to_end(run)

    assert run.output() == 7


def hold(tester: WorkflowTester) -> Any:
    """Claim a stage run whose body lets the test look at the lease while it is held."""
    [held] = tester.engine.keeper._held
    return held


def turn(tester: WorkflowTester, duration: timedelta) -> None:
    tester.advance(duration)
    tester.engine.keeper.renew()


def test_the_lease_of_a_body_that_runs_is_renewed_however_long_it_runs(start: Start) -> None:
    def body(_: Any) -> int:
        for _half in range(10):
            turn(tester, LEASE / 2)
        return int(hold(tester).lost.is_set())

    tester = start(chain(step("a", body)))
    run = tester.create_run("chain", 1)

    tester.deliver()

    assert run.output() == 0


def test_a_lease_is_not_renewed_for_an_execution_that_hangs_after_its_body(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    tester = start(chain(step("a")))
    run = tester.create_run("chain", 1)
    original = tester.database.execute_one if tester.database.is_postgres else tester.database.transact
    name = original.__name__
    bound = timedelta(seconds=tester.database.limits.call_seconds)

    def hang(work: Any, **options: Any) -> Any:
        if tester.engine.keeper._held and not taken:
            monkeypatch.setattr(tester.database, name, original)
            turn(tester, bound - timedelta(seconds=1))  # renewed for the last time
            lease = hold(tester).lease
            turn(tester, LEASE - timedelta(seconds=1))
            taken.append(is_held(tester.database, lease))
            turn(tester, timedelta(seconds=2))
            tester.sweep()
            taken.append(is_held(tester.database, lease))
        return original(work, **options)

    monkeypatch.setattr(tester.database, name, hang)

    assert tester.deliver().result == "discarded"
    assert taken == [True, False]
    tester.run_until_idle()
    assert run.output() == 1


@pytest.mark.parametrize("is_reaped", [False, True])
def test_a_claim_that_was_answered_late_is_renewed_first_and_not_begun_when_it_was_given_to_others(
    start: Start, monkeypatch: pytest.MonkeyPatch, *, is_reaped: bool
) -> None:
    bodies: list[tuple[int, bool]] = []
    original = execute_module.claim

    def answered_late(*arguments: Any) -> Any:
        monkeypatch.setattr(execute_module, "claim", original)
        taken = original(*arguments)
        tester.advance(LEASE + timedelta(seconds=1))
        if is_reaped:
            tester.sweep()
        return taken

    def body(ctx: Any) -> int:
        tester.sweep()
        bodies.append((ctx.attempt, is_held(tester.database, hold(tester).lease)))
        return 1

    tester = start(chain(step("a", body)))
    run = tester.create_run("chain", 1)
    monkeypatch.setattr(execute_module, "claim", answered_late)

    result = tester.deliver().result
    tester.run_to_end(run)

    assert result == ("discarded" if is_reaped else "completed")
    assert bodies == [(2, True) if is_reaped else (1, True)]


def test_a_lease_that_could_not_be_renewed_in_time_is_held_again_once_the_database_says_so(
    start: Start, absent: Any
) -> None:
    def body(ctx: Any) -> int:
        absence.begin(LEASE * 2)
        tester.clock.skew += LEASE * 1.5
        tester.engine.keeper.renew()
        lost = hold(tester).lost.is_set()
        tester.clock.skew += LEASE
        tester.engine.keeper.renew()
        return int(lost and not ctx.cancelled)

    tester = start(chain(step("a", body)))
    absence = absent(tester)
    run = tester.create_run("chain", 1)

    assert tester.deliver().result == "completed"
    assert run.output() == 1


@pytest.mark.parametrize("end", ["returns", "raises"])
def test_what_a_body_returns_that_was_told_to_stop_does_not_count_though_its_lease_was_held_after_all(
    start: Start, absent: Any, end: str
) -> None:
    seen: list[bool] = []

    def body(ctx: Any) -> str:
        if seen:
            return "whole"
        ctx.log.info("first")
        absence.begin(LEASE * 2)
        tester.clock.skew += LEASE * 1.5
        tester.engine.keeper.renew()
        seen.append(ctx.cancelled)
        tester.clock.skew += LEASE
        tester.engine.keeper.renew()
        seen.append(ctx.cancelled)
        if end == "raises":
            ctx.raise_if_cancelled()
        return "half"

    tester = start(chain(step("a", body, retry=Retry(max_attempts=1))))
    absence = absent(tester)
    run = tester.create_run("chain", 1)

    result = tester.deliver().result
    tester.run_to_end(run)

    assert (result, seen, run.output()) == ("discarded", [True, True], "whole")
    assert [one.outcome for one in tester.list_attempts(run.id, "a")] == [
        AttemptOutcome.RELEASED,
        AttemptOutcome.COMPLETED,
    ]
    assert run.list_logs().items[0].message == "first"  # what it had logged is kept
