"""PgBouncer in transaction mode between us and PostgreSQL: a session is lent for one transaction, then to somebody else."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import sqlalchemy as sa

from workflow_engine.store.connection.call_limits import Limits
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema
from workflow_engine.testing.kit import TurnedClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow_engine.testing.pgbouncer import PgBouncerServer

#: The sessions of the pool.
SIZE = 4
#: Of these the pooler itself keeps each client's own value.
TRACKED = {"application_name", "client_encoding", "DateStyle", "standard_conforming_strings", "TimeZone"}


@pytest.fixture
def pooled_url(pgbouncer_server: PgBouncerServer, postgres_url: str) -> str:
    return pgbouncer_server.url(postgres_url)


def ask_every_session(url: str, statement: str) -> list[list[Any]]:
    """Execute a statement on all sessions of the pool, as other programs do that use it at the same time."""
    with ExitStack() as stack:
        cursors = []
        for _ in range(SIZE):
            neighbour = stack.enter_context(closing(psycopg2.connect(url.replace("+psycopg2", ""))))
            cursors.append(neighbour.cursor())
            cursors[-1].execute("SELECT 1")  # begins a transaction, which holds a session
        answers = []
        for cursor in cursors:
            cursor.execute(statement)
            answers.append(cursor.fetchall() if cursor.description else [])
            cursor.connection.commit()
        return answers


def use_every_session(database: Database) -> None:
    """Call the database in all ways on all sessions of the pool at once."""
    meet = threading.Barrier(SIZE)

    def use() -> None:
        database.transact(lambda tx: (tx.scalar(sa.text("SELECT 1")), meet.wait(30)))
        database.read(lambda tx: tx.scalar(sa.text("SELECT 1")))
        database.execute_one(lambda tx: tx.scalar(sa.text("SELECT 1")))

    threads = [threading.Thread(target=use) for _ in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def database(pooled_url: str) -> Iterator[Database]:
    opened = Database(pooled_url)
    yield opened
    opened.close()


def test_nothing_that_we_set_reaches_other_programs(database: Database, pooled_url: str) -> None:
    schema.upgrade(database)
    use_every_session(database)

    left = ask_every_session(
        pooled_url, "SELECT name FROM pg_settings WHERE source = 'session' AND name <> 'transaction_isolation'"
    )

    assert {row[0] for rows in left for row in rows} <= TRACKED


def test_nothing_that_other_programs_set_reaches_us(database: Database, pooled_url: str) -> None:
    ask_every_session(
        pooled_url,
        "SET default_transaction_isolation = 'serializable'; SET statement_timeout = '1h'; SET lock_timeout = 1",
    )
    names = "transaction_isolation", "statement_timeout", "lock_timeout"
    query = sa.text(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")

    for call in (database.transact, database.read, database.execute_one):
        assert tuple(call(lambda tx: tx.execute(query).one())) == ("read committed", "30s", "5s")


def test_a_worker_that_stops_in_the_middle_of_a_transaction_gives_its_session_back(pooled_url: str) -> None:
    stopped = Database(pooled_url, clock=TurnedClock(), limits=Limits(idle=timedelta(milliseconds=100)))
    other = Database(pooled_url)
    stopped.transact(lambda tx: tx.execute(sa.text("CREATE TABLE locked (id int)")))
    tries: list[int] = []

    def hold(tx: Any) -> None:
        tries.append(1)
        tx.execute(sa.text("LOCK TABLE locked"))
        if len(tries) == 1:
            other.read(lambda free: free.scalar(sa.text("SELECT count(*) FROM locked")))  # waits until that is ended
        tx.execute(sa.text("SELECT 1"))

    stopped.transact(hold)
    stopped.close()
    other.close()

    assert len(tries) == 2
