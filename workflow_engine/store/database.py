"""The connection to the authority: one engine per process, short transactions, retried when nothing was decided.

PostgreSQL runs in READ COMMITTED, set here and never inherited; SQLite takes its write lock at BEGIN, because a
transaction that reads first and writes later fails at once with "database is locked", whatever the busy timeout.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import StaticPool

from workflow_engine.clock import SystemClock
from workflow_engine.errors import ConfigurationError, DatabaseUnavailableError
from workflow_engine.store.database_errors import summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL, Connection, Engine

    from workflow_engine.clock import Clock

T = TypeVar("T")

#: SQLSTATE classes and codes after which the same call may be made again: serialization, deadlock, lock and
#: statement timeouts, shutdown, connection loss, resource shortage.
_RETRYABLE = ("40001", "40P01", "55P03", "57014", "57P0", "08", "53", "25P03")
#: Each session: how long it may wait for a lock, run a statement, and sit in a transaction (a worker that is stopped
#: in the middle of one would otherwise hold its run's lock until it dies).
_POSTGRES_SESSION = (
    "SET default_transaction_isolation = 'read committed'; "
    "SET lock_timeout = '5s'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '10s'"
)
_SQLITE_SESSION = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA busy_timeout = 30000",
    "PRAGMA foreign_keys = ON",
)
_MAX_TRIES = 6


class Database:
    """The database behind one URL.

    Args:
        url: ``postgresql://…``, ``postgres://…`` or ``sqlite:///path``; ``sqlite://`` is a private in-memory database.
        pool_size: Connections kept open (PostgreSQL).
        clock: Sleeps between tries; the database itself tells the time.

    Raises:
        ConfigurationError: The URL is malformed or names a database that is not supported.
    """

    def __init__(self, url: str, *, pool_size: int = 5, clock: Clock | None = None) -> None:
        self.url = _parse_url(url)
        self.clock = clock or SystemClock()
        self.is_postgres = self.url.get_backend_name() == "postgresql"
        #: Added to the time of SQLite's ``workflow_now()``; tests turn it.
        self.skew = timedelta(0)
        self._make_turns()
        self.engine = self._postgres_engine(pool_size) if self.is_postgres else self._sqlite_engine()

    @property
    def safe_url(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def _in_memory(self) -> bool:
        return not self.is_postgres and self.url.database in (None, "", ":memory:")

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Call ``work`` in one write transaction and commit; durable when this returns.

        ``work`` is called again after an error that decided nothing or left the outcome unknown, so it must be
        idempotent: all moves are, by their guards.

        Raises:
            DatabaseUnavailableError: The database did not answer in several tries.
        """

        def attempt() -> T:
            with self._write_turn, self.engine.begin() as tx:
                return work(tx)

        return self._with_retries(attempt)

    def execute_one(self, work: Callable[[Connection], T]) -> T:
        """Call ``work``, which executes one statement that is a transaction of its own; retried like ``transact``."""
        if not self.is_postgres:
            return self.transact(work)

        def attempt() -> T:
            with self._autocommitting() as connection:
                return work(connection)

        return self._with_retries(attempt)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Call ``work``, which only reads; retried like ``transact``."""

        def attempt() -> T:
            connect = self._autocommitting if self.is_postgres else self.engine.connect
            with self._read_turn, connect() as connection:
                return work(connection.execution_options(workflow_read=True))

        return self._with_retries(attempt)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def forget_connections(self) -> None:
        """Drop connections inherited over a fork without closing them: they belong to the parent."""
        self.engine.dispose(close=False)
        self._make_turns()  # a thread of the parent may have held one during the fork

    def _make_turns(self) -> None:
        """SQLite has one writer: threads that queue here are served at once, those that it turns away poll.

        A database in memory is one connection, so that its readers take turns as well.
        """
        self._write_turn = nullcontext() if self.is_postgres else threading.RLock()
        self._read_turn = self._write_turn if self._in_memory else nullcontext()

    @contextmanager
    def _autocommitting(self) -> Iterator[Connection]:
        """Lend a connection each of whose statements commits itself: no round trips for BEGIN and COMMIT.

        SQLAlchemy's isolation level AUTOCOMMIT would cost a round trip of its own each time (a SET of psycopg2's).
        """
        with self.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.autocommit = True
            try:
                yield connection
            finally:
                if not driver.closed:
                    driver.autocommit = False

    def _with_retries(self, attempt: Callable[[], T]) -> T:
        for tries in range(1, _MAX_TRIES + 1):
            try:
                return attempt()
            except DBAPIError as error:
                if not is_transient(error):
                    raise
                if tries == _MAX_TRIES:
                    raise DatabaseUnavailableError(
                        f"The database {self.safe_url} does not answer: {summarize(error)}"
                    ) from error
                self.clock.sleep(timedelta(seconds=random.uniform(0.5, 1.0) * min(0.05 * 2**tries, 2.0)))  # noqa: S311 - jitter
        raise AssertionError("unreachable")

    def _postgres_engine(self, pool_size: int) -> Engine:
        engine = sa.create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=20,
            pool_timeout=30,
            pool_recycle=1800,
            hide_parameters=True,
            connect_args={
                "connect_timeout": 5,
                "application_name": f"workflow_engine:{os.getpid()}",
                "keepalives": 1,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
        )
        event.listen(engine, "connect", _prepare_postgres)
        return engine

    def _sqlite_engine(self) -> Engine:
        options: dict[str, Any] = {"poolclass": StaticPool} if self._in_memory else {}
        arguments = {"check_same_thread": False, "timeout": 30}
        engine = sa.create_engine(self.url, connect_args=arguments, hide_parameters=True, **options)
        event.listen(engine, "connect", self._prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _prepare_sqlite(self, connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in _SQLITE_SESSION:
            connection.execute(pragma)
        connection.create_function("workflow_now", 0, self._sqlite_now)

    def _sqlite_now(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew // timedelta(milliseconds=1)


def is_transient(error: DBAPIError) -> bool:
    """Whether the same call may succeed when it is made again."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "pgcode", None)
    if state is not None:
        return str(state).startswith(_RETRYABLE)
    if not isinstance(error, OperationalError):
        return False
    text = str(error.orig)
    return "sqlite" not in type(error.orig).__module__ or "locked" in text or "busy" in text


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("workflow_read", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _prepare_postgres(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRES_SESSION)
    connection.commit()


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend in ("postgres", "postgresql"):
            # SQLAlchemy 2.1 reads postgresql:// as psycopg 3; the driver that this package brings is psycopg2.
            return parsed.set(drivername="postgresql+psycopg2")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigurationError(
            f"The database URL cannot be used: {type(error).__name__}; give sqlite:///file.db "
            "or postgresql://user:password@host/name"
        ) from None
    if backend != "sqlite":
        raise ConfigurationError(f"Databases of kind {backend!r} are not supported; use postgresql or sqlite")
    return parsed
