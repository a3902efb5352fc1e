"""Claims, the sweep, the redispatch by hand and the doctor give one answer to whether a stage run may be taken."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.statements import compose_anew
from workflow_engine.engine.commands.redispatch import redispatch
from workflow_engine.lifecycle import StageMove, StageStatus
from workflow_engine.store.moves import admission, claims
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.moves.paused_workflows import pause
from workflow_engine.store.records import ClaimRequest
from workflow_engine.store.upkeep.due import WaitingList, dispatch_due, find_stuck_runs, waiting_lists
from workflow_engine.store.upkeep.health import read_backlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

    from tests.contract.conftest import Records
    from workflow_engine.store.connection.database import Database

PAST, FUTURE = 1_735_689_600_000, 4_000_000_000_000
ALL_WAS_DELIVERED = 5_000_000_000_000

#: Each with the columns of a stage run, and whether it may be taken as far as it is up to the stage run.
STAGE_RUNS: dict[str, tuple[bool, dict[str, Any]]] = {
    "pending": (True, {"status": "PENDING"}),
    "pending, later": (False, {"status": "PENDING", "available_at": FUTURE}),
    "pending, superseded": (False, {"status": "PENDING", "superseded_by": 1}),
    "pending, which was polled before": (True, {"status": "PENDING", "next_poll_at": FUTURE}),
    "running": (False, {"status": "RUNNING"}),
    "suspended": (True, {"status": "SUSPENDED"}),
    "suspended, which was never to be executed again": (True, {"status": "SUSPENDED", "available_at": FUTURE}),
    "suspended, later": (False, {"status": "SUSPENDED", "next_poll_at": FUTURE}),
    "suspended, superseded": (False, {"status": "SUSPENDED", "superseded_by": 1}),
    "suspended, being polled": (False, {"status": "SUSPENDED", "lease_id": "x", "lease_until": FUTURE}),
    "completed": (False, {"status": "COMPLETED", "output_id": "x"}),
    "failed": (False, {"status": "FAILED"}),
    "cancelled": (False, {"status": "CANCELLED"}),
    "skipped": (False, {"status": "SKIPPED"}),
}
#: Each with the columns of a run, and whether it admits.
RUNS: dict[str, tuple[bool, dict[str, Any]]] = {
    "pending": (True, {"status": "PENDING"}),
    "running": (True, {"status": "RUNNING"}),
    "paused": (False, {"status": "RUNNING", "paused_at": PAST}),
    "pending, paused": (False, {"status": "PENDING", "paused_at": PAST}),
    "completed": (False, {"status": "COMPLETED"}),
    "failed": (False, {"status": "FAILED"}),
    "cancelled": (False, {"status": "CANCELLED"}),
    "of a paused workflow": (False, {"status": "RUNNING", "workflow_id": "held"}),
}


class Case:
    """A run with one stage run, in a queue of its own by which answers name it."""

    def __init__(self, records: Records, run: str, stage: str) -> None:
        self.name = f"a {stage} stage run of a run that is {run}"
        run_admits, run_columns = RUNS[run]
        is_due, stage_columns = STAGE_RUNS[stage]
        self.may_be_taken = run_admits and is_due
        self.status = StageStatus(stage_columns["status"])
        self.run_id = records.run(**run_columns)
        self.stage_run_id = records.stage(self.run_id, queue=self.name, **stage_columns)


def insert_cases(records: Records, *runs: str) -> list[Case]:
    records.database.transact(lambda tx: pause(tx, "held"))
    return [Case(records, run, stage) for run, stage in itertools.product(runs, STAGE_RUNS)]


@contextmanager
def rolled_back(database: Database) -> Iterator[Connection]:
    """Open a transaction that changes nothing."""
    with database.pool.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def asked_one_by_one(ask: Callable[[Connection, Case], bool]) -> Callable[[Database, list[Case]], set[str]]:
    def answer(database: Database, cases: list[Case]) -> set[str]:
        found = set()
        for case in cases:
            with rolled_back(database) as tx:
                found |= {case.name} if ask(tx, case) else set()
        return found

    return answer


def request(case: Case) -> ClaimRequest:
    return ClaimRequest(case.stage_run_id, 1, "nonce", "host:1:a", 30_000)


def is_redispatched_by_hand(tx: Connection, case: Case) -> bool:
    run = LockedRun.find(tx, case.run_id)
    assert run is not None
    redispatch(run)
    return bool(run.hints)


def sent_by_the_sweep(database: Database, cases: list[Case]) -> set[str]:
    with rolled_back(database) as tx:
        lists = [replace(one, delivered_until=ALL_WAS_DELIVERED) for one in waiting_lists(tx)[1]]
        return {hint.queue for one in lists for hint in dispatch_due(tx, one, slack_ms=1000, limit=len(cases))}


def stuck_by_the_doctor(database: Database, cases: list[Case]) -> set[str]:
    with rolled_back(database) as tx:
        found = set()
        for case in cases:
            waiting = WaitingList(case.name, 5, ALL_WAS_DELIVERED)
            stuck = find_stuck_runs(tx, waiting, slack_ms=1000, patience_ms=60_000, limit=10)
            assert stuck in ([], [case.run_id])
            found |= {case.name} if stuck else set()
        return found


def counted_by_the_doctor(database: Database, _cases: list[Case]) -> set[str]:
    with rolled_back(database) as tx:
        return {backlog.queue for backlog in read_backlog(tx)}


#: The names of the cases that each of them takes for one that may be taken.
ASKED: dict[str, Callable[[Database, list[Case]], set[str]]] = {
    "the portable claim": asked_one_by_one(lambda tx, case: claims._claim(tx, request(case)) is not None),
    "the redispatch by hand": asked_one_by_one(is_redispatched_by_hand),
    "the sweep": sent_by_the_sweep,
    "the doctor's backlog": counted_by_the_doctor,
    "the doctor's stuck runs": stuck_by_the_doctor,
}


def taken_by_the_statement(database: Database, cases: list[Case]) -> set[str]:
    """Attempts only: polls are taken by the portable claim."""
    return asked_one_by_one(lambda tx, case: moves_postgres.claim(tx, request(case)) is not None)(database, cases)


def test_whoever_asks_gets_the_same_answer_in_every_state(database: Database, records: Records) -> None:
    cases = insert_cases(records, *RUNS)
    expected = {case.name for case in cases if case.may_be_taken}

    answers = {who: ask(database, cases) for who, ask in ASKED.items()}

    assert answers == dict.fromkeys(ASKED, expected)
    if database.is_postgres:
        attempts = {case.name for case in cases if case.may_be_taken and case.status is StageStatus.PENDING}
        assert taken_by_the_statement(database, cases) == attempts


def without_attempts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StageMove, "CLAIM", replace(StageMove.CLAIM, sources=frozenset()))


def whatever_the_time(patch: pytest.MonkeyPatch) -> None:
    rewrite(patch, admission.due_at, lambda stage: stage.c.dispatched_at)


def being_polled_too(patch: pytest.MonkeyPatch) -> None:
    waiting = lambda stage: stage.c.status.in_(["PENDING", "SUSPENDED"]) & stage.c.superseded_by.is_(None)  # noqa: E731
    rewrite(patch, admission.waits, waiting)


def of_paused_runs_too(patch: pytest.MonkeyPatch) -> None:
    rewrite(patch, admission.run_admits, lambda run: run.c.status.in_(["PENDING", "RUNNING"]))


def rewrite(patch: pytest.MonkeyPatch, function: Any, other: Any) -> None:
    """Change what a function does for everybody who has imported it."""
    patch.setattr(function, "__code__", other.__code__)


@pytest.mark.parametrize("change", [without_attempts, whatever_the_time, being_polled_too, of_paused_runs_too])
def test_a_change_of_the_rule_is_a_change_for_everybody_who_asks(
    database: Database, records: Records, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    cases = insert_cases(records, "running", "paused")
    before = {case.name for case in cases if case.may_be_taken}
    change(monkeypatch)
    monkeypatch.setattr(claims, "read_claim", lambda *_: True)

    answers = [ask(database, cases) for ask in ASKED.values()]

    assert answers == [answers[0]] * len(ASKED)
    assert answers[0] != before
    if database.is_postgres:
        monkeypatch.setattr(moves_postgres, "_CLAIM", compose_anew()._CLAIM)
        is_attempt = {case.name for case in cases if case.status is StageStatus.PENDING}
        assert taken_by_the_statement(database, cases) == answers[0] & is_attempt
