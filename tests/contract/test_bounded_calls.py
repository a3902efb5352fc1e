"""A call of the database that never comes back is ended here, because no limit of the server reaches it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.errors import DatabaseUnavailableError
from workflow_engine.store.connection.call_limits import UNLIMITED, Limits
from workflow_engine.store.connection.database import Database
from workflow_engine.store.connection.watchdog import Line
from workflow_engine.testing.kit import TurnedClock

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The server is told to let it run, so that nothing but the client's own limit can end it.
NEVER_ANSWERED = "SET LOCAL statement_timeout = 0; SELECT pg_sleep(20)"
SHORT = Limits(statement=timedelta(milliseconds=200))


@pytest.fixture
def impatient(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url, clock=TurnedClock(), limits=SHORT)
    yield database
    database.close()


def hang_once(calls: list[int]) -> Any:
    def work(tx: Any) -> str:
        calls.append(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar())
        if len(calls) == 1:
            tx.exec_driver_sql(NEVER_ANSWERED)
        return "done"

    return work


@pytest.mark.parametrize("name", ["transact", "execute_one", "read"])
def test_a_call_that_is_not_answered_is_given_up_and_made_again_on_a_new_connection(
    impatient: Database, name: str
) -> None:
    calls: list[int] = []

    assert getattr(impatient, name)(hang_once(calls)) == "done"

    first, second = calls
    assert first != second


def test_a_commit_that_is_not_answered_is_given_up(impatient: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = impatient.pool.dialect.do_commit

    def never_answered(connection: Any) -> None:
        if len(calls) == 1:
            with closing(connection.cursor()) as cursor:
                cursor.execute(NEVER_ANSWERED)
        original(connection)

    monkeypatch.setattr(impatient.pool.dialect, "do_commit", never_answered)

    impatient.transact(lambda tx: calls.append(tx.exec_driver_sql("SELECT 1").scalar()))

    assert calls == [1, 1]


def test_a_database_that_never_answers_is_unavailable_in_the_end_and_the_limit_is_named(impatient: Database) -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"does not answer: OperationalError: no answer within 0\.24 s"):
        impatient.read(lambda tx: tx.exec_driver_sql(NEVER_ANSWERED))


def test_a_call_may_be_without_a_limit(impatient: Database) -> None:
    assert impatient.read(lambda tx: tx.exec_driver_sql("SELECT pg_sleep(0.5), 1").one()[1], limits=UNLIMITED) == 1


FORK = """
import os, sys, threading
from datetime import timedelta
from workflow_engine.store.connection.database import Database
from workflow_engine.store.connection.call_limits import Limits

url, never_answered = sys.argv[1:]
parents = Database(url, limits=Limits(statement=timedelta(seconds=1)))
childs = Database(url, limits=Limits(statement=timedelta(seconds=1.5)))
begun, sessions = threading.Event(), []

def sleep(tx):
    sessions.append(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar())
    begun.set()
    tx.exec_driver_sql("SELECT pg_sleep(0.5)")

thread = threading.Thread(target=parents.read, args=[sleep])
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    calls = []
    def work(tx):
        calls.append(1)
        tx.exec_driver_sql(never_answered if len(calls) == 1 else "SELECT 1")
    childs.read(work)  # is awake when the call of the parent would have been late
    os._exit(len(calls))
tries = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
thread.join()
parents.read(sleep)
print(tries, len(sessions), len(set(sessions)))
"""


def test_a_forked_process_ends_its_own_calls_and_leaves_those_of_its_parent_alone(postgres_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, postgres_url, NEVER_ANSWERED],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.split() == ["2", "2", "1"], done.stderr


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def receive(end: socket.socket, ended: threading.Event) -> threading.Thread:
    """Wait for data in a thread of its own, as a call of the driver does."""

    def wait() -> None:
        if end.recv(1) == b"":
            ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_short_call_ends_in_time_while_a_long_one_is_under_way(pair: tuple[socket.socket, socket.socket]) -> None:
    long_call, short_call = Line(pair[1].fileno()), Line(pair[0].fileno())
    ended = threading.Event()
    receive(pair[0], ended)

    long_call.begin_call(20)
    short_call.begin_call(0.01)

    assert ended.wait(30)
    assert (short_call.was_cut, long_call.was_cut) == (True, False)


def test_a_call_that_came_back_is_not_cut_when_its_time_is_over(pair: tuple[socket.socket, socket.socket]) -> None:
    done, late = Line(pair[0].fileno()), Line(pair[1].fileno())
    done.begin_call(0.01)
    done.end_call()
    ended = threading.Event()
    receive(pair[1], ended)

    late.begin_call(0.05)  # cut later than the other would have been

    assert ended.wait(30)
    assert (done.was_cut, done.deadline) == (False, inf)


def test_a_connection_that_its_driver_has_closed_is_cut_without_touching_the_file_that_got_its_number() -> None:
    ours, other = socket.socketpair()
    line = Line(ours.fileno())
    number = ours.fileno()
    ours.close()
    with closing(other):
        innocent, friend = socket.socketpair()
        with closing(innocent), closing(friend):
            assert innocent.fileno() == number

            line.cut()
            friend.sendall(b"x")

            assert (innocent.recv(1), other.recv(1)) == (b"x", b"")
