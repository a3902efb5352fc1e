"""Threads that do things at the same time: from a barrier, or all waiting for one row to be let go."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from workflow_engine.definition import (
    GroupFailurePolicy,
    Pending,
    Registry,
    WorkflowBuilder,
    define_async_batch_stage,
)
from workflow_engine.engine import CreateRun, Engine, create_run
from workflow_engine.engine.decisions.outcomes import Completed
from workflow_engine.engine.transitions.finish import finish
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.records import ClaimRequest, Report
from workflow_engine.store.schema import revisions as schema
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import runs, stages
from workflow_engine.store.upkeep.invariants import find_violations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from workflow_engine.store.records import Claim, Hint

MOST_RACERS = 8
LEASE_MS = 30_000
WAITING = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def _stage(stage_id: str) -> Any:
    return define_async_batch_stage(
        id=stage_id, execute=lambda _: 1, check=lambda _: Pending(), input=Any, output=Any, state=Any
    )


def _group(workflow_id: str, size: int, policy: GroupFailurePolicy) -> Any:
    members = [_stage(f"m{number}") for number in range(size)]
    return WorkflowBuilder(workflow_id, input=int).parallel(*members, on_failure=policy).pipe(_LAST).build()


_A, _B, _C, _D, _LAST = (_stage(name) for name in ("a", "b", "c", "d", "last"))
WORKFLOWS = [
    WorkflowBuilder("wide", input=int).parallel(_A, _B, _C, _D).pipe(_LAST).build(),
    WorkflowBuilder("narrow", input=int).pipe(_A).pipe(_LAST).build(),
    *(_group(f"pair-{policy}", 2, policy) for policy in GroupFailurePolicy),
    *(_group(f"crowd-{policy}", MOST_RACERS, policy) for policy in GroupFailurePolicy),
]


class Recorder:
    """A broker that keeps what it is given, and delivers nothing."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []

    def dispatch(self, hints: Sequence[Hint]) -> None:
        self.hints.extend(hints)

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        """Nobody asks."""

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]] | None:
        return set(lists)


class Course:
    """An engine, and threads to race on it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.broker = Recorder()
        settings = Settings(lease=timedelta(milliseconds=LEASE_MS))
        self.engine = Engine.build(
            settings=settings,
            registry=Registry({w.id: w for w in WORKFLOWS}),
            dispatcher=self.broker,
            database=database,
        )
        self.errors: Counter[str] = Counter()
        #: For engines that are broken on purpose.
        self.may_be_inconsistent = False
        self._threads = ThreadPoolExecutor(MOST_RACERS)
        self._nonces = iter(range(10**9))
        event.listen(database.pool, "handle_error", self._count_error)

    def close(self) -> None:
        self._threads.shutdown()
        event.remove(self.database.pool, "handle_error", self._count_error)

    def race(self, *calls: Callable[[], Any]) -> list[Any]:
        """Let all calls go at once; return their results."""
        barrier = threading.Barrier(len(calls))

        def run(call: Callable[[], Any]) -> Any:
            barrier.wait(30)
            return call()

        return [future.result(60) for future in [self._threads.submit(run, call) for call in calls]]

    def race_for_row(self, run_id: str, *calls: Callable[[], Any]) -> list[Any]:
        """Hold the run's row until every call waits for it: each has then taken its snapshot too early (PostgreSQL)."""
        return self.race_behind(sa.select(runs.c.id).where(runs.c.id == run_id), *calls)

    def race_behind(self, rows: Any, *calls: Callable[[], Any]) -> list[Any]:
        """Hold the rows while the calls queue for them, one after the other, then let go (PostgreSQL)."""
        return self.race_during(lambda holder: holder.execute(rows.with_for_update()), *calls)

    def race_during(self, hold: Callable[[sa.Connection], Any], *calls: Callable[[], Any]) -> list[Any]:
        """Begin a transaction with ``hold``; commit it when every call waits for it, or is done (PostgreSQL)."""
        futures: list[Future[Any]] = []
        with self.database.pool.connect() as holder, self.database.pool.connect() as watcher:
            hold(holder)
            for call in calls:
                futures.append(self._threads.submit(call))
                while watcher.scalar(WAITING) < len(futures) and not futures[-1].done():
                    watcher.rollback()
            holder.commit()
        return [future.result(60) for future in futures]

    def create(self, workflow_id: str = "wide", **options: Any) -> str:
        return create_run(self.engine, CreateRun(workflow_id, 1, **options)).run_id

    def claim(self, stage_run_id: str, *, lease_ms: int = LEASE_MS) -> Claim | None:
        return claim(self.database, self.claim_request(stage_run_id, lease_ms=lease_ms))

    def claim_request(self, stage_run_id: str, *, lease_ms: int = LEASE_MS) -> ClaimRequest:
        return ClaimRequest(stage_run_id, 1, f"nonce-{next(self._nonces)}", "host:1:a", lease_ms)

    def claim_all(self, run_id: str, *, lease_ms: int = LEASE_MS) -> list[Claim]:
        taken = [self.claim(stage_run_id, lease_ms=lease_ms) for stage_run_id in self.stage_runs(run_id)]
        return [one for one in taken if one is not None]

    def complete(self, taken: Claim, report: Report | None = None) -> bool:
        return finish(self.engine, taken, Completed('"done"'), report or Report())

    def stage_runs(self, run_id: str) -> dict[str, str]:
        """Return status by id of the live stage runs."""
        query = sa.select(stages.c.id, stages.c.status).where(
            stages.c.run_id == run_id, stages.c.superseded_by.is_(None)
        )
        return {
            row.id: row.status for row in self.database.read(lambda tx: tx.execute(query.order_by(stages.c.id)).all())
        }

    def members(self, run_id: str) -> list[tuple[str, str]]:
        """Return the ids of the first group's stage runs, and of their stages, in the order in which they are locked."""
        query = sa.select(stages.c.id, stages.c.stage_id).where(
            stages.c.run_id == run_id, stages.c.execution_group == 1
        )
        rows = self.database.read(lambda tx: tx.execute(query.order_by(stages.c.id)).all())
        return [(row.id, row.stage_id) for row in rows]

    def run(self, run_id: str) -> Any:
        query = sa.select(runs.c.status, runs.c.current_group, runs.c.generation).where(runs.c.id == run_id)
        return self.database.read(lambda tx: tx.execute(query).one())

    def is_poll_due(self, stage_run_id: str) -> bool:
        query = sa.select(stages.c.next_poll_at <= now()).where(stages.c.id == stage_run_id)
        return bool(self.database.read(lambda tx: tx.scalar(query)))

    def sent(self, run_id: str, stage_id: str) -> int:
        return sum(hint.run_id == run_id and hint.stage_id == stage_id for hint in self.broker.hints)

    def violations(self) -> dict[str, list[str]]:
        return find_violations(self.database)

    def _count_error(self, context: Any) -> None:
        self.errors[str(getattr(context.original_exception, "pgcode", None))] += 1


@contextmanager
def _course(database: Database) -> Iterator[Course]:
    course = Course(database)
    try:
        yield course
        assert course.may_be_inconsistent or course.violations() == {}
    finally:
        course.close()


@pytest.fixture
def course(database: Database) -> Iterator[Course]:
    """Races on each kind of database; its records are consistent afterwards."""
    with _course(database) as opened:
        yield opened


@pytest.fixture
def serial_course() -> Iterator[Course]:
    """A place to do the same things one after the other."""
    database = Database("sqlite://")
    schema.upgrade(database)
    with _course(database) as opened:
        yield opened
    database.close()


@pytest.fixture
def postgres_course(postgres_server: Any, migrated_postgres: str) -> Iterator[Course]:
    """Races on PostgreSQL, where transactions really overlap."""
    url = postgres_server.create_database(template=migrated_postgres)
    database = Database(url)
    with _course(database) as opened:
        yield opened
    database.close()
    postgres_server.drop_database(url.rpartition("/")[2])
