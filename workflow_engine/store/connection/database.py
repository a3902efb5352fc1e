"""The way to the database: one connection pool per process, and short transactions that are retried.

PostgreSQL runs in READ COMMITTED, set with each transaction and never inherited; SQLite takes its write lock at BEGIN,
because a transaction that reads first and writes later fails at once with "database is locked", whatever the busy
timeout.
"""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as NoConnectionFreeError
from sqlalchemy.pool import StaticPool

from workflow_engine.clock import SystemClock
from workflow_engine.errors import ConfigurationError, DatabaseTimeoutError, DatabaseUnavailableError
from workflow_engine.store.connection import driver_errors
from workflow_engine.store.connection.call_limits import Limits
from workflow_engine.store.connection.error_texts import summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext

    from workflow_engine.clock import Clock

T = TypeVar("T")

_SQLITE_SESSION = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA busy_timeout = 30000",
    "PRAGMA foreign_keys = ON",
)
_MAX_TRIES = 6
#: No further try begins after this many seconds: a try on a connection that does not answer may take long.
_PATIENCE = 45.0


class Database:
    """The database behind one URL.

    Args:
        url: ``postgresql://…``, ``postgres://…`` or ``sqlite:///path``; ``sqlite://`` is a private in-memory database.
        pool_size: Connections kept open (PostgreSQL).
        clock: Sleeps between tries; the database itself tells the time.
        limits: How long statements, locks and pauses may take (PostgreSQL).

    Raises:
        ConfigurationError: The URL is malformed or names a database that is not supported.
    """

    def __init__(
        self, url: str, *, pool_size: int = 5, clock: Clock | None = None, limits: Limits | None = None
    ) -> None:
        self.url = _parse_url(url)
        self.clock = clock or SystemClock()
        self.limits = limits or Limits()
        self.is_postgres = self.url.get_backend_name() == "postgresql"
        #: Added to the time of SQLite's ``workflow_now()``; tests turn it.
        self.skew = timedelta(0)
        self._make_turns()
        self.pool = self._postgres_pool(pool_size) if self.is_postgres else self._sqlite_pool()

    @property
    def safe_url(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def _in_memory(self) -> bool:
        return not self.is_postgres and self.url.database in (None, "", ":memory:")

    def transact(self, work: Callable[[Connection], T], *, limits: Limits | None = None) -> T:
        """Call ``work`` in one write transaction and commit; durable when this returns.

        ``work`` is called again after an error that decided nothing or left the outcome unknown, so it must be
        idempotent: all moves are, by their guards.

        Args:
            work: What to do in the transaction.
            limits: Other limits than the database's.

        Raises:
            DatabaseUnavailableError: The database did not answer, or refused to write, in several tries.
            DatabaseTimeoutError: A statement took too long; nothing was changed.
        """

        def attempt() -> T:
            with self._write_turn, self._connect(limits) as connection, connection.begin():
                return work(connection)

        return self.retry(attempt)

    def execute_one(self, work: Callable[[Connection], T], *, limits: Limits | None = None) -> T:
        """Call ``work``, which executes one statement that is a transaction of its own; retried like ``transact``."""
        if not self.is_postgres:
            return self.transact(work)

        def attempt() -> T:
            with self._connect(limits, is_alone=True) as connection:
                return work(connection)

        return self.retry(attempt)

    def read(self, work: Callable[[Connection], T], *, limits: Limits | None = None) -> T:
        """Call ``work``, which only reads; retried like ``transact``."""

        def attempt() -> T:
            with self._read_turn, self._connect(limits, is_alone=True) as connection:
                return work(connection.execution_options(workflow_read=True))

        return self.retry(attempt)

    def retry(self, attempt: Callable[[], T]) -> T:
        """Call ``attempt`` until it returns, or raises what another try would not change."""
        give_up_at = self.clock.monotonic() + _PATIENCE
        for tries in itertools.count(1):
            try:
                return attempt()
            except (DBAPIError, NoConnectionFreeError, self.pool.dialect.loaded_dbapi.Error) as error:
                self._raise_if_decided(error)
                if tries == _MAX_TRIES or self.clock.monotonic() >= give_up_at:
                    raise self._unavailable(error) from error
                self.clock.sleep(timedelta(seconds=random.uniform(0.5, 1.0) * min(0.05 * 2**tries, 2.0)))  # noqa: S311 - jitter
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close every pooled connection."""
        self.pool.dispose()

    def forget_connections(self) -> None:
        """Drop connections inherited over a fork without closing them: they belong to the parent."""
        self.pool.dispose(close=False)
        self._make_turns()  # a thread of the parent may have held one during the fork

    def _make_turns(self) -> None:
        """SQLite has one writer. Threads that wait here go on at once in turn; SQLite itself would make them poll.

        A database in memory is one connection, so its readers take turns as well.
        """
        self._write_turn = nullcontext() if self.is_postgres else threading.RLock()
        self._read_turn = self._write_turn if self._in_memory else nullcontext()

    @contextmanager
    def _connect(self, limits: Limits | None, *, is_alone: bool = False) -> Iterator[Connection]:
        """Lend a connection; ``is_alone``: without round trips for BEGIN and COMMIT, each statement commits itself."""
        with self.pool.connect() as connection:
            if not self.is_postgres:
                yield connection
                return
            driver: Any = connection.connection.dbapi_connection
            driver.limits, driver.is_alone = limits or self.limits, is_alone
            try:
                yield connection
            finally:
                driver.limits, driver.is_alone = self.limits, False

    def _raise_if_decided(self, error: Exception) -> None:
        """Raise what another try would not change."""
        if isinstance(error, NoConnectionFreeError):
            raise DatabaseUnavailableError(
                f"No connection to the database {self.safe_url} became free: this process uses all that it may have"
            ) from error
        if driver_errors.was_cancelled(error):
            raise DatabaseTimeoutError(driver_errors.operation_of(error.__traceback__)) from error
        if not driver_errors.is_away(error) and not driver_errors.is_busy(error):
            raise error

    def _unavailable(self, error: Exception) -> DatabaseUnavailableError:
        is_read_only = driver_errors.refuses_writes(error)
        said = "refuses to write (it is read-only, or a standby)" if is_read_only else "does not answer"
        return DatabaseUnavailableError(f"The database {self.safe_url} {said}: {summarize(error)}")

    def _postgres_pool(self, pool_size: int) -> Engine:
        from workflow_engine.store.connection.postgres_connection import PostgresConnection  # noqa: PLC0415 - who has SQLite needs no driver

        pool = sa.create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=20,
            pool_timeout=30,
            pool_recycle=1800,
            hide_parameters=True,
            use_native_hstore=False,  # else each new connection asks for types that we do not use
            connect_args={
                "connection_factory": PostgresConnection,
                "connect_timeout": 5,
                "application_name": f"workflow_engine:{os.getpid()}",
                "keepalives": 1,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
        )
        event.listen(pool, "handle_error", _drop_if_away)
        return pool

    def _sqlite_pool(self) -> Engine:
        options: dict[str, Any] = {"poolclass": StaticPool} if self._in_memory else {}
        arguments = {"check_same_thread": False, "timeout": 30}
        pool = sa.create_engine(self.url, connect_args=arguments, hide_parameters=True, **options)
        event.listen(pool, "connect", self._prepare_sqlite)
        event.listen(pool, "begin", _begin_sqlite)
        if not self._in_memory:  # there, the connection is the database
            event.listen(pool, "handle_error", _roll_back_if_away)
            event.listen(pool, "handle_error", _drop_if_away)
        return pool

    def _prepare_sqlite(self, connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in _SQLITE_SESSION:
            connection.execute(pragma)
        connection.create_function("workflow_now", 0, self._sqlite_now)

    def _sqlite_now(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew // timedelta(milliseconds=1)


def _drop_if_away(context: ExceptionContext) -> None:
    """Drop the connection, and all that were made before: after a failover every one leads to the old primary."""
    if driver_errors.is_away(context.original_exception):
        context.is_disconnect = True


def _roll_back_if_away(context: ExceptionContext) -> None:
    """End the transaction: a connection of SQLite that is closed holds its lock while any cursor of it is left."""
    if context.connection is not None and driver_errors.is_away(context.original_exception):
        driver: Any = context.connection.connection.dbapi_connection
        with suppress(sqlite3.Error):
            driver.rollback()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("workflow_read", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


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
