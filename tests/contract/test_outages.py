"""A database that is away, busy or too slow: what is tried again, on which connection, and what is raised in the end."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import sqlalchemy as sa

from workflow_engine.engine.upkeep.doctor import Health, check_access
from workflow_engine.errors import DatabaseTimeoutError, DatabaseUnavailableError
from workflow_engine.store.connection.call_limits import Limits
from workflow_engine.store.connection.database import Database
from workflow_engine.store.upkeep.health import read_backlog
from workflow_engine.testing.kit import TurnedClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workflow_engine.testing.services import PostgresServer

PID = sa.text("SELECT pg_backend_pid()")


class Interrupted:
    """Work that notes the session it runs in and meets an accident the first time."""

    def __init__(self, accident: Callable[[Any], object]) -> None:
        self.sessions: list[int] = []
        self._accident = accident

    def __call__(self, tx: Any) -> str:
        self.sessions.append(tx.scalar(PID))
        if len(self.sessions) == 1:
            self._accident(tx)
        return "done"


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url, clock=TurnedClock())
    yield database
    database.close()


@pytest.fixture(params=["transact", "execute_one", "read"])
def call(request: pytest.FixtureRequest, postgres: Database) -> Any:
    return getattr(postgres, request.param)


def raise_state(state: str) -> Callable[[Any], object]:
    return lambda tx: tx.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{state}'; END $$")


@pytest.mark.parametrize("state", ["08006", "25006", "25P02", "53100", "53300", "57P01", "57P03", "58030"])
def test_after_an_error_that_says_away_the_call_is_made_again_on_a_new_connection(call: Any, state: str) -> None:
    work = Interrupted(raise_state(state))

    assert call(work) == "done"

    first, second = work.sessions
    assert first != second


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
def test_after_an_error_that_says_busy_the_call_is_made_again_on_the_same_connection(call: Any, state: str) -> None:
    work = Interrupted(raise_state(state))

    assert call(work) == "done"

    first, second = work.sessions
    assert first == second


@pytest.mark.parametrize("state", ["22012", "23505", "42P01", "42501"])
def test_an_error_of_the_statement_itself_is_raised_at_once(call: Any, state: str) -> None:
    work = Interrupted(raise_state(state))

    with pytest.raises(sa.exc.DBAPIError):
        call(work)

    assert len(work.sessions) == 1


def close_the_driver(tx: Any) -> None:
    tx.connection.dbapi_connection.close()
    tx.scalar(PID)  # psycopg2.InterfaceError


def end_the_session(tx: Any) -> None:
    [(url, pid)] = [(tx.engine.url.set(drivername="postgresql"), tx.connection.dbapi_connection.info.backend_pid)]
    with closing(psycopg2.connect(url.render_as_string(hide_password=False))) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    tx.scalar(PID)


@pytest.mark.parametrize("accident", [close_the_driver, end_the_session])
def test_a_connection_that_breaks_inside_a_call_is_replaced(call: Any, accident: Callable[[Any], object]) -> None:
    work = Interrupted(accident)

    assert call(work) == "done"
    assert len(work.sessions) == 2


def test_an_error_without_a_code_of_any_class_is_one_of_the_connection(call: Any) -> None:
    def fail(_: Any) -> None:
        raise psycopg2.DatabaseError("lost synchronization with server: got message type")

    assert call(Interrupted(fail)) == "done"


def test_a_transaction_whose_error_was_swallowed_does_not_pass_for_committed(postgres: Database) -> None:
    postgres.transact(lambda tx: tx.exec_driver_sql("CREATE TABLE rows (id int)"))
    tries: list[int] = []

    def work(tx: Any) -> None:
        tries.append(1)
        tx.exec_driver_sql("INSERT INTO rows VALUES (1)")
        if len(tries) == 1:
            with suppress(psycopg2.Error), closing(tx.connection.dbapi_connection.cursor()) as cursor:
                cursor.execute("SELECT 1 / 0")

    postgres.transact(work)

    assert postgres.read(lambda tx: tx.scalar(sa.text("SELECT count(*) FROM rows"))) == 1


def refuse_writes(server: PostgresServer, url: str, *, refuse: bool) -> None:
    """Let the database refuse, or accept, writes on connections that are made from now on."""
    name, value = url.rpartition("/")[2], "on" if refuse else "off"
    with closing(psycopg2.connect(server.url().replace("+psycopg2", ""))) as other:
        other.autocommit = True
        other.cursor().execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")


def test_connections_to_an_old_primary_are_all_dropped_once_one_refuses_to_write(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = Database(postgres_url, clock=TurnedClock())
    meet = threading.Barrier(3)

    def open_one() -> None:
        database.read(lambda tx: (tx.scalar(PID), meet.wait(30)))

    refuse_writes(postgres_server, postgres_url, refuse=True)
    threads = [threading.Thread(target=open_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refuse_writes(postgres_server, postgres_url, refuse=False)
    tries: list[int] = []

    database.transact(lambda tx: (tries.append(tx.scalar(PID)), tx.execute(sa.text("CREATE TABLE written (id int)"))))
    database.close()

    assert len(tries) == 2


def test_a_database_that_refuses_to_write_is_unavailable_and_says_so_without_the_password(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    refuse_writes(postgres_server, postgres_url, refuse=True)
    database = Database(postgres_url, clock=TurnedClock())

    with pytest.raises(DatabaseUnavailableError, match=r"refuses to write .*SQLSTATE 25006") as caught:
        database.transact(lambda tx: tx.execute(sa.text("CREATE TABLE written (id int)")))
    database.close()

    assert str(database.url.password) not in str(caught.value)


def test_the_doctor_says_when_a_database_refuses_to_write(postgres_server: PostgresServer, postgres_url: str) -> None:
    refuse_writes(postgres_server, postgres_url, refuse=True)
    database = Database(postgres_url)

    diagnosis = check_access(database)
    database.close()

    assert diagnosis.health is Health.DEGRADED
    assert "refuses to write" in diagnosis.findings[0].message


def test_no_free_connection_is_unavailable_and_not_waited_for_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres = Database(postgres_url, pool_size=1, clock=TurnedClock())
    monkeypatch.setattr(postgres.pool.pool, "_timeout", 0.01)
    monkeypatch.setattr(postgres.pool.pool, "_max_overflow", 0)
    calls: list[int] = []

    def nested(tx: Any) -> None:
        calls.append(tx.scalar(PID))
        postgres.read(lambda inner: calls.append(inner.scalar(PID)))

    with pytest.raises(DatabaseUnavailableError, match=r"No connection to the database .* became free"):
        postgres.transact(nested)
    postgres.close()

    assert len(calls) == 1


@pytest.mark.parametrize("name", ["transact", "execute_one", "read"])
def test_a_statement_that_exceeds_its_limit_is_not_made_again_and_its_operation_is_named(
    postgres_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres_url, limits=Limits(statement=timedelta(seconds=1)))
    calls: list[int] = []

    def too_slow(tx: Any, *_: Any) -> Any:
        calls.append(1)
        return tx.exec_driver_sql("SELECT pg_sleep(60)")

    monkeypatch.setattr(sa.engine.Connection, "execute", too_slow)

    with pytest.raises(DatabaseTimeoutError, match="cancelled 'read_backlog'") as caught:
        getattr(database, name)(read_backlog)
    database.close()

    assert (len(calls), caught.value.operation) == (1, "read_backlog")


def test_one_call_may_have_other_limits_and_leaves_none_to_the_next(postgres: Database) -> None:
    names = "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_isolation"
    query = sa.text(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
    limits = postgres.limits.within(timedelta(seconds=2))

    within = postgres.transact(lambda tx: tuple(tx.execute(query).one()), limits=limits)
    usual = postgres.transact(lambda tx: tuple(tx.execute(query).one()))
    alone = postgres.read(lambda tx: tuple(tx.execute(query).one()))
    with closing(postgres.pool.raw_connection()) as session:
        raw: Any = psycopg2.extensions.connection.cursor(
            session.dbapi_connection, cursor_factory=psycopg2.extensions.cursor
        )
        raw.execute(query.text)
        left = raw.fetchone()

    assert within == ("2s", "2s", "10s", "read committed")
    assert usual == ("30s", "5s", "10s", "read committed")
    assert alone == ("30s", "5s", "0", "read committed")
    assert left == ("0", "0", "0", "read committed")


def test_a_worker_that_stops_in_the_middle_of_a_transaction_does_not_hold_its_locks_for_ever(postgres_url: str) -> None:
    database = Database(postgres_url, clock=TurnedClock(), limits=Limits(idle=timedelta(milliseconds=100)))
    database.transact(lambda tx: tx.execute(sa.text("CREATE TABLE locked (id int)")))
    other = Database(postgres_url)
    holding = threading.Event()
    sessions: list[int] = []

    def hold(tx: Any) -> None:
        sessions.append(tx.scalar(PID))
        tx.execute(sa.text("LOCK TABLE locked"))
        if len(sessions) == 1:
            holding.set()
            other.read(lambda free: free.scalar(sa.text("SELECT count(*) FROM locked")))  # waits until it is ended

    database.transact(hold)
    database.close()
    other.close()

    assert len(sessions) == 2


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'some.db'}", clock=TurnedClock())
    database.transact(lambda tx: tx.exec_driver_sql("CREATE TABLE rows (text TEXT)"))
    yield database
    database.close()


def write(tx: Any) -> None:
    tx.exec_driver_sql("INSERT INTO rows VALUES (?)", ("x" * 100_000,))


@pytest.mark.parametrize(
    ("pragma", "error"), [("query_only = ON", "readonly database"), ("max_page_count = 3", "database or disk is full")]
)
def test_a_sqlite_file_that_cannot_be_written_is_opened_again(sqlite: Database, pragma: str, error: str) -> None:
    met: list[str] = []

    def work(tx: Any) -> None:
        if not met:
            tx.exec_driver_sql(f"PRAGMA {pragma}")
        try:
            write(tx)
        except sa.exc.OperationalError as problem:
            met.append(str(problem.orig))
            raise

    sqlite.transact(work)

    assert met in ([error], [f"attempt to write a {error}"])
    assert sqlite.read(lambda tx: tx.scalar(sa.text("SELECT count(*) FROM rows"))) == 1


def test_a_sqlite_file_that_is_gone_with_its_folder_is_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'no folder' / 'some.db'}", clock=TurnedClock())

    with pytest.raises(
        DatabaseUnavailableError, match="does not answer: OperationalError: unable to open database file"
    ):
        database.read(lambda tx: tx.scalar(sa.text("SELECT 1")))


def test_a_sqlite_file_that_is_locked_is_waited_for_and_unavailable_in_the_end(sqlite: Database) -> None:
    def work(tx: Any) -> None:
        tx.exec_driver_sql("PRAGMA busy_timeout = 0")
        write(tx)

    sqlite.read(lambda tx: tx.exec_driver_sql("PRAGMA busy_timeout = 0"))  # of the one connection of the pool
    with closing(sqlite3.connect(str(sqlite.url.database))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailableError, match="does not answer: OperationalError: database is locked"):
            sqlite.transact(work)
        other.rollback()

    sqlite.transact(work)


def test_a_database_in_memory_survives_what_a_file_would_be_opened_again_for() -> None:
    database = Database("sqlite://", clock=TurnedClock())
    database.transact(lambda tx: tx.exec_driver_sql("CREATE TABLE rows (text TEXT)"))
    database.transact(write)
    database.read(lambda tx: tx.exec_driver_sql("PRAGMA query_only = ON"))

    with pytest.raises(DatabaseUnavailableError, match="readonly"):
        database.transact(write)

    assert database.read(lambda tx: tx.scalar(sa.text("SELECT count(*) FROM rows"))) == 1
    database.close()
