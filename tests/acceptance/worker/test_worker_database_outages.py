from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from workflow_engine.errors import DatabaseUnavailableError
from workflow_engine.testing.processes import free_port
from workflow_engine.testing.services import PostgresServer

pytestmark = pytest.mark.long(8)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def database_url(private_postgres_server: PostgresServer) -> str:
    return private_postgres_server.create_database()


class Maintenance:
    """Switches a server to read only, for new connections and for those that there are."""

    def __init__(self, server: PostgresServer) -> None:
        self._url = server.url().replace("+psycopg2", "")

    def set(self, *, read_only: bool) -> None:
        with closing(psycopg2.connect(self._url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER SYSTEM SET default_transaction_read_only = {read_only}")
            cursor.execute("SELECT pg_reload_conf()")

    def is_read_only(self) -> bool:
        with closing(psycopg2.connect(self._url)) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            return bool(cursor.fetchone() == ("on",))


def attempts_of(world: Any) -> list[Any]:
    return list(world.read("SELECT attempt, crashes, status FROM workflow_stages"))


def test_an_outcome_waits_until_the_database_accepts_writes_again(
    world: Any, gate: Any, private_postgres_server: PostgresServer
) -> None:
    maintenance = Maintenance(private_postgres_server)
    worker = world.start_worker("--pool=prefork", sweep_in_workers="always", lease="PT6S")
    run_id = world.create_run("holding", **gate.order)
    world.wait_until(lambda: len(gate.pids) == 1)
    maintenance.set(read_only=True)
    world.wait_until(maintenance.is_read_only)

    with pytest.raises(DatabaseUnavailableError, match="read-only"):
        world.create_run("arithmetic")
    gate.open()
    world.wait_for_log(worker, "waits for the database")
    maintenance.set(read_only=False)
    world.wait_for(run_id)

    assert attempts_of(world) == [(1, 0, "COMPLETED")]
    assert len(gate.pids) == 1
    assert worker.is_running()


@pytest.fixture
def proxy(private_postgres_server: PostgresServer) -> Iterator[Any]:
    """Something in between that forgets connections: a process, and the port that it listens on."""
    port, target = free_port(), private_postgres_server.url().rpartition(":")[2].partition("/")[0]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.proxy", target, str(port)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process, port
        process.kill()


def test_a_lease_is_renewed_on_a_new_connection_when_the_old_one_is_never_answered(
    world: Any, gate: Any, proxy: Any
) -> None:
    process, port = proxy
    url, _, name = world.settings.database_url.rpartition("/")
    through_proxy = f"{url.rpartition(':')[0]}:{port}/{name}"
    world.start_worker("--pool=prefork", sweep_in_workers="never", lease="PT6S", database_url=through_proxy)
    run_id = world.create_run("holding", **gate.order)
    world.wait_until(lambda: len(gate.pids) == 1)

    def lease_until() -> int:
        [(until,)] = world.read("SELECT lease_until FROM workflow_stages")
        return int(until)

    process.send_signal(signal.SIGUSR1)
    before = lease_until()
    world.wait_until(lambda: lease_until() > before + 4000)
    gate.open()
    world.wait_for(run_id)

    assert attempts_of(world) == [(1, 0, "COMPLETED")]
    world.wait_for(world.create_run("arithmetic", number=1))
