"""A world whose time, broker and accidents are in the hands of a test. Nothing in it waits, and nothing is random."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import sqlalchemy as sa
from protocol_play import PLAY, REGISTRY
from sqlalchemy.exc import OperationalError
from typing_extensions import override

from workflow_engine import ids
from workflow_engine.engine import Engine
from workflow_engine.engine.upkeep import expire, reap
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema.tables import metadata
from workflow_engine.store.upkeep.invariants import INVARIANTS, find_violations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from workflow_engine.store.records import Claim, Hint

NEW_YEAR = 1_735_689_600_000
LEASE_MS = 30_000
SWEEP_INTERVAL_MS = 5_000
GRACE_MS = 40_000
FINAL_POLL_GRACE_MS = 100_000

SETTINGS = Settings(
    lease=timedelta(milliseconds=LEASE_MS),
    sweep_interval=timedelta(milliseconds=SWEEP_INTERVAL_MS),
    definition_grace=timedelta(milliseconds=GRACE_MS),
    unknown_workflow_grace=timedelta(milliseconds=GRACE_MS),
    final_poll_grace=timedelta(milliseconds=FINAL_POLL_GRACE_MS),
)

#: PostgreSQL tells the time from a table of its own.
FROZEN_POSTGRES_CLOCK = (
    "CREATE TABLE frozen_time (now bigint NOT NULL)",
    f"INSERT INTO frozen_time VALUES ({NEW_YEAR})",
    "CREATE OR REPLACE FUNCTION workflow_now() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT now FROM frozen_time'",
)

#: Every invariant in one statement, for every step; ``find_violations`` names the culprits when it finds any.
_ALL_INVARIANTS = sa.text("SELECT " + " OR ".join(f"EXISTS ({query})" for query in INVARIANTS.values()))


class WorkerDiedError(BaseException):
    """The process ended right after a commit: whatever it wanted to do then is not done."""


def _lost_connection() -> OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("injected", None, error)


class FaultyDatabase(Database):
    """A database whose time stands still unless moved, and whose next transactions meet accidents."""

    def __init__(self, url: str) -> None:
        self.present = NEW_YEAR
        #: Of the transactions to come: "answer lost", "rolled back" or "died".
        self.accidents: list[str] = []
        super().__init__(url, clock=FrozenClock(self))

    def set_time(self, present: int) -> None:
        self.present = present
        if self.is_postgres:
            super().execute_one(lambda tx: tx.execute(sa.text("UPDATE frozen_time SET now = :now"), {"now": present}))

    def empty(self) -> None:
        tables = [table.name for table in reversed(metadata.sorted_tables)]
        if self.is_postgres:
            super().execute_one(lambda tx: tx.execute(sa.text(f"TRUNCATE {', '.join(tables)}")))
        else:
            super().transact(lambda tx: [tx.execute(sa.text(f"DELETE FROM {table}")) for table in tables])

    def is_consistent(self) -> bool:
        return not super().read(lambda tx: tx.scalar(_ALL_INVARIANTS))

    @override
    def transact(self, work: Callable[[Any], Any], **options: Any) -> Any:
        def interrupted(tx: Any) -> Any:
            result = work(tx)
            if self._next_is("rolled back"):
                raise _lost_connection()
            return result

        return self._commit(lambda: super(FaultyDatabase, self).transact(interrupted, **options))

    @override
    def execute_one(self, work: Callable[[Any], Any], **options: Any) -> Any:
        if not self.is_postgres:
            return self.transact(work)
        return self._commit(lambda: super(FaultyDatabase, self).execute_one(work, **options))

    def _commit(self, transaction: Callable[[], Any]) -> Any:
        result = transaction()
        if self._next_is("answer lost"):
            return self._commit(transaction)
        if result is not None and self._next_is("died"):
            raise WorkerDiedError
        return result

    def _next_is(self, accident: str) -> bool:
        if self.accidents[:1] != [accident]:
            return False
        self.accidents.pop(0)
        return True

    @override
    def _sqlite_now(self) -> int:
        return self.present


class FrozenClock:
    """The hosts' time is the database's; nobody sleeps."""

    def __init__(self, database: FaultyDatabase) -> None:
        self._database = database

    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self._database.present)

    def monotonic(self) -> float:
        return self._database.present / 1000

    def sleep(self, duration: timedelta) -> None:
        pass


@dataclass
class Broker:
    """Lists of messages that lose, double and reorder them when told to."""

    messages: list[Hint] = field(default_factory=list)
    #: Whatever was sent in all of the example, for messages that come back from nowhere.
    ever: list[Hint] = field(default_factory=list)
    is_down: bool = False

    def dispatch(self, hints: Sequence[Hint]) -> None:
        self.ever.extend(hints)
        if not self.is_down:
            self.messages.extend(hints)

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        """Forget it: the process that would have sent it may be gone by then."""
        self.ever.append(hint)

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]] | None:
        if self.is_down:
            return None
        return set(lists) - {(hint.queue, hint.priority) for hint in self.messages}

    def take(self, index: int) -> Hint:
        return self.messages.pop(index % len(self.messages))

    def holds(self, stage_run_id: str, dispatch_number: int) -> bool:
        return any(
            hint.stage_run_id == stage_run_id and hint.dispatch_number == dispatch_number for hint in self.messages
        )


@dataclass(frozen=True)
class Execution:
    """A claim that a worker holds and has not finished."""

    claim: Claim
    worker: str


#: Module of the engine, and the query by which its sweep step finds what to act on.
READERS = {
    "leases": (reap, "expired_leases"),
    "suspensions": (expire, "expired_suspensions"),
    "queued": (expire, "expired_in_queue"),
    "runs": (expire, "overdue_runs"),
}
#: What those queries need besides a connection and a limit.
OPTIONS = {"suspensions": {"grace_ms": FINAL_POLL_GRACE_MS}}


class World:
    """Database, broker, engine and what the workers have in hand."""

    def __init__(self, database: FaultyDatabase) -> None:
        self.database = database
        self.broker = Broker()
        self.engine = Engine.build(
            settings=SETTINGS, registry=REGISTRY, dispatcher=self.broker, database=database, clock=database.clock
        )
        self.executions: list[Execution] = []
        #: What the steps of the last sweep found.
        self.found: dict[str, list[Any]] = {}
        #: What another sweep found a while ago, to be acted on now.
        self.stale: dict[str, list[Any]] | None = None
        self._stack = ExitStack()

    def open(self) -> None:
        PLAY.reset()
        self.database.accidents.clear()
        self.database.empty()
        self.database.set_time(NEW_YEAR)
        self._stack.enter_context(_predictable_ids(self.database))
        for name, (owner, function) in READERS.items():
            reader = self._reader(name, getattr(owner, function))
            self._stack.enter_context(patch.object(owner, function, reader))

    def close(self) -> None:
        self._stack.close()
        self.engine.keeper.stop()
        self.engine.bodies.stop()

    def read_stale(self) -> dict[str, list[Any]]:
        """Read what a sweep would act on now."""
        from workflow_engine.store.moves import leases  # noqa: PLC0415 - unpatched, where they are defined
        from workflow_engine.store.upkeep import overdue  # noqa: PLC0415 - unpatched, where they are defined

        functions = {**vars(leases), **vars(overdue)}
        return {
            name: self.database.read(
                lambda tx, read=functions[function], name=name: read(tx, 500, **OPTIONS.get(name, {}))
            )
            for name, (_, function) in READERS.items()
        }

    def violations(self, *, final: bool = False) -> dict[str, list[str]]:
        """Return what breaks the invariants; asks for all of them at once first, which is fast."""
        if not final and self.database.is_consistent():
            return {}
        return find_violations(self.database, final=final)

    def _reader(self, name: str, read: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def reader(tx: Any, limit: int, **options: int) -> list[Any]:
            self.found[name] = self.stale[name] if self.stale is not None else read(tx, limit, **options)
            return self.found[name]

        return reader


@contextmanager
def _predictable_ids(database: FaultyDatabase) -> Iterator[None]:
    counter = itertools.count(1)

    class Secrets:
        @staticmethod
        def randbits(bits: int) -> int:
            return next(counter) % 2**bits

    class Time:
        @staticmethod
        def time_ns() -> int:
            return database.present * 1_000_000

    with patch.object(ids, "secrets", Secrets), patch.object(ids, "time", Time):
        yield
