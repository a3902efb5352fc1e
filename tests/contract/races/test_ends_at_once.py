"""Two members of a group that end at the same time leave what they leave one after the other.

Every pair of ends is raced under every failure policy. Both calls wait for the run's row, so each statement begins
with a snapshot from before the other's; what they leave must be what the portable form leaves on SQLite, where the two
are called in turn.
"""

from __future__ import annotations

import itertools
import re
from functools import partial
from pprint import pformat
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.effort import EFFORT
from workflow_engine.definition import GroupFailurePolicy
from workflow_engine.engine import StageKey, cancel_run, complete_stage, fail_stage, reap_worker
from workflow_engine.engine.decisions.outcomes import Completed, Failed, NotReady, Retrying, Skipped, Suspended
from workflow_engine.engine.transitions.finish import finish
from workflow_engine.errors import ErrorCode
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.moves.admission import admits
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.moves.locked_run import RUN_COLUMNS, LockedRun
from workflow_engine.store.records import ClaimRequest, NewAnnotation, Report, StageFailure
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    Call = Callable[[], Any]
    Prepare = Callable[[Any, str, str, str], Call]

FAST = Report(cost_nanos=5, tokens=3)
#: An annotation makes the completion take the statement by statement form on PostgreSQL, too.
SLOW = Report(cost_nanos=5, tokens=3, annotations=(NewAnnotation("form", '"slow"'),))
FAILURE = StageFailure(ErrorCode.STAGE_ERROR, "ValueError", "no")
SUSPENDED = Suspended("1", "poll", None, 0, 0, 600_000)
#: No lease runs out during the test, however slow the machine is.
A_DAY_MS = 86_400_000


def take(course: Any, stage_run_id: str) -> Any:
    return course.claim(stage_run_id, lease_ms=A_DAY_MS)


def body_ends(outcome: Any, report: Report = FAST) -> Prepare:
    def prepare(course: Any, _run_id: str, stage_run_id: str, _stage_id: str) -> Call:
        return partial(finish, course.engine, take(course, stage_run_id), outcome, report)

    return prepare


def poll_ends(outcome: Any) -> Prepare:
    def prepare(course: Any, _run_id: str, stage_run_id: str, _stage_id: str) -> Call:
        finish(course.engine, take(course, stage_run_id), SUSPENDED, FAST)
        return partial(finish, course.engine, take(course, stage_run_id), outcome, FAST)

    return prepare


def told(tell: Callable[..., bool], value: Any) -> Prepare:
    def prepare(course: Any, run_id: str, stage_run_id: str, stage_id: str) -> Call:
        finish(course.engine, take(course, stage_run_id), SUSPENDED, FAST)
        return partial(tell, course.engine, StageKey(run_id, stage_id), value)

    return prepare


def claimed(course: Any, _run_id: str, stage_run_id: str, _stage_id: str) -> Call:
    return lambda: take(course, stage_run_id) is not None


def cancelled(course: Any, run_id: str, _stage_run_id: str, _stage_id: str) -> Call:
    return partial(cancel_run, course.engine, run_id)


def reaped(course: Any, _run_id: str, stage_run_id: str, _stage_id: str) -> Call:
    worker = f"gone-{stage_run_id}"
    claim(course.database, ClaimRequest(stage_run_id, 1, stage_run_id, worker, A_DAY_MS))
    return partial(reap_worker, course.engine, worker)


ENDS: dict[str, Prepare] = {
    "completes": body_ends(Completed('"done"')),
    "completes slowly": body_ends(Completed('"done"'), SLOW),
    "fails": body_ends(Failed(FAILURE)),
    "retries": body_ends(Retrying(FAILURE, 0)),
    "suspends": body_ends(SUSPENDED),
    "is skipped": body_ends(Skipped()),
    "completes by poll": poll_ends(Completed('"done"')),
    "fails by poll": poll_ends(Failed(FAILURE)),
    "is not ready": poll_ends(NotReady(None, None)),
    "is completed from outside": told(complete_stage, "done"),
    "is failed from outside": told(fail_stage, "no"),
    "is cancelled": cancelled,
    "is reaped": reaped,
    "is claimed": claimed,
}
PAIRS = list(itertools.combinations_with_replacement(ENDS, 2))
#: Where no member fails the policy is not asked.
FAILING_PAIRS = [pair for pair in PAIRS if any("fail" in end for end in pair)]

RUN = """
SELECT status, current_group, input_group, output_group, remaining, failed, error_code, error_message,
       completed_at IS NULL AS is_live, priority FROM workflow_runs WHERE id = :id"""
STAGES = """
SELECT s.stage_id, s.status, s.attempt, s.fence, s.crashes, s.polls, s.poll_failures, s.dispatch_number, s.priority, s.cost_nanos,
       s.tokens, s.error_code, s.error_type, s.error_message, s.lease_id IS NULL AS is_free, s.next_poll_at IS NULL AS is_unpolled,
       s.cleanup_due_at IS NULL AS is_clean, o.payload
FROM workflow_stages s LEFT JOIN workflow_outputs o ON o.id = s.output_id WHERE s.run_id = :id ORDER BY s.execution_group, s.id"""
ATTEMPTS = """
SELECT s.stage_id, a.fence, a.kind, a.attempt, a.outcome, a.error_code, a.cost_nanos, a.tokens, a.ended_at IS NULL AS is_open
FROM workflow_attempts a JOIN workflow_stages s ON s.id = a.stage_run_id WHERE s.run_id = :id ORDER BY s.id, a.fence"""
EVENTS = "SELECT type, stage_id, payload FROM workflow_events WHERE run_id = :id ORDER BY sequence"


def read_records(course: Any, run_id: str) -> list[str]:
    """Return what is recorded of the run, one line for each value, without ids and instants.

    Members are named by the order of their ids, in which commands take them.
    """
    names = {name: f"member {number}" for number, member in enumerate(course.members(run_id)) for name in member}
    name = re.compile(rf"\b({'|'.join(names)})\b")

    def read(tx: sa.Connection) -> list[str]:
        lines = []
        for table, query in (("run", RUN), ("stage", STAGES), ("attempt", ATTEMPTS), ("event", EVENTS)):
            for number, row in enumerate(tx.execute(sa.text(query), {"id": run_id}).mappings()):
                values = {key: bool(value) if key.startswith("is_") else value for key, value in row.items()}
                lines += [f"{table} {number} {key}: {value}" for key, value in values.items()]
        return [name.sub(lambda found: names[found[0]], line) for line in lines]

    found: list[str] = course.database.read(read)
    return found


def named(call: Call) -> Any:
    """Return the call's result, or the name of what it raised."""
    try:
        return str(call())
    except Exception as error:  # noqa: BLE001 - any is a finding
        return f"{type(error).__name__}: {error}"


def prepare(course: Any, policy: str, pair: tuple[str, str]) -> tuple[str, list[Call]]:
    run_id = course.create(f"pair-{policy}")
    members = zip(pair, course.members(run_id), strict=True)
    calls = [ENDS[end](course, run_id, stage_run_id, stage_id) for end, (stage_run_id, stage_id) in members]
    return run_id, [partial(named, call) for call in calls]


def in_turn(course: Any, policy: str, pair: tuple[str, str], first: int) -> list[str]:
    run_id, calls = prepare(course, policy, pair)
    results = {index: calls[index]() for index in (first, 1 - first)}
    return [f"results: {results[0]}, {results[1]}", *read_records(course, run_id)]


def at_once(course: Any, policy: str, pair: tuple[str, str], first: int) -> list[str]:
    run_id, calls = prepare(course, policy, pair)
    results = course.race_for_row(run_id, calls[first], calls[1 - first])
    return [f"results: {results[first]}, {results[1 - first]}", *read_records(course, run_id)]


def differences(raced: Any, serial: Any, policy: str, pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Race every pair once, each member first in turn; return what came out as in neither order."""
    found = {}
    for number, pair in enumerate(pairs):
        first = number % 2
        outcome = at_once(raced, policy, pair, first)
        expected = in_turn(serial, policy, pair, first)
        if outcome not in (expected, in_turn(serial, policy, pair, 1 - first)):
            found[" | ".join(pair)] = sorted(set(outcome) ^ set(expected))
    return found


@pytest.mark.parametrize("policy", GroupFailurePolicy)
def test_members_that_end_at_once_leave_what_they_leave_in_turn(
    postgres_course: Any, serial_course: Any, policy: str
) -> None:
    pairs = PAIRS if policy is GroupFailurePolicy.FINISH_RUNNING else FAILING_PAIRS

    found = differences(postgres_course, serial_course, policy, pairs)

    assert found == {}, pformat(found, width=200)


@pytest.mark.parametrize(
    ("policy", "other"),
    [
        (GroupFailurePolicy.FINISH_RUNNING, "completes slowly"),
        (GroupFailurePolicy.WAIT_ALL, "completes by poll"),
    ],
)
def test_of_eight_members_that_end_at_once_one_failure_leaves_seven_successes(
    course: Any, policy: GroupFailurePolicy, other: str
) -> None:
    ends = ["fails", *["completes", other] * 3, "completes"]
    for trial in range(4 * EFFORT):
        run_id = course.create(f"crowd-{policy}")
        order = [*ends[trial:], *ends[:trial]]
        calls = [ENDS[end](course, run_id, *member) for end, member in zip(order, course.members(run_id), strict=True)]

        accepted = course.race(*calls)

        assert accepted == [True] * 8
        assert sorted(course.stage_runs(run_id).values()) == ["COMPLETED"] * 7 + ["FAILED"]
        assert course.run(run_id).status == "FAILED"


def takes_the_run_as_it_was_before_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    before = "EXISTS (SELECT 1 FROM workflow_runs b WHERE b.id = :run_id AND b.remaining = 1 AND b.failed > 0)"
    replace_in_statement(monkeypatch, "_COMPLETE", ("(remaining = 1 AND failed > 0)", before))


def counts_failures_in_the_statement_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = "(SELECT count(*) FROM workflow_stages f WHERE f.run_id = :run_id AND f.status = 'FAILED')"
    replace_in_statement(monkeypatch, "_COMPLETE", ("AND failed > 0", f"AND {counted} > 0"))


def reads_the_run_before_it_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(tx: Connection, run_id: str) -> LockedRun | None:
        told = (now().label("locked_at"), admits(runs).label("admits"))
        unlocked = sa.select(*RUN_COLUMNS, *told).where(runs.c.id == run_id)
        row = tx.execute(unlocked).mappings().first()
        tx.execute(sa.select(runs.c.id).where(runs.c.id == run_id).with_for_update())
        return LockedRun(tx, row) if row else None

    monkeypatch.setattr(LockedRun, "find", find)


def replace_in_statement(monkeypatch: pytest.MonkeyPatch, name: str, *pairs: tuple[str, str]) -> None:
    statement = getattr(moves_postgres, name).text
    for old, new in pairs:
        assert old in statement
        statement = statement.replace(old, new)
    monkeypatch.setattr(moves_postgres, name, sa.text(statement))


@pytest.mark.parametrize(
    ("mutate", "pair"),
    [
        (takes_the_run_as_it_was_before_the_wait, ("fails", "completes")),
        (takes_the_run_as_it_was_before_the_wait, ("fails by poll", "completes")),
        (counts_failures_in_the_statement_that_waits, ("is failed from outside", "completes")),
        (reads_the_run_before_it_is_locked, ("fails", "completes slowly")),
        (reads_the_run_before_it_is_locked, ("is completed from outside", "retries")),
    ],
    ids=lambda value: value.__name__ if callable(value) else " | ".join(value),
)
def test_the_race_finds_an_engine_that(
    postgres_course: Any, serial_course: Any, monkeypatch: pytest.MonkeyPatch, mutate: Any, pair: tuple[str, str]
) -> None:
    mutate(monkeypatch)

    found = differences(postgres_course, serial_course, GroupFailurePolicy.WAIT_ALL, [pair])

    assert list(found) == [" | ".join(pair)]
    postgres_course.may_be_inconsistent = True
