"""A pool's children are replaced at any time, whatever the main process has to do with the database."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from workflow_engine.store.connection.database import Database

pytestmark = pytest.mark.long(8)


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'worker.db'}"
    return str(request.getfixturevalue("postgres_server").create_database())


@contextmanager
def locked_out(database: Database) -> Iterator[None]:
    """Keep everybody else from writing what a sweep writes first."""
    if database.is_postgres:
        with database.pool.begin() as connection:
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.exec_driver_sql("LOCK TABLE workflow_ticks IN ACCESS EXCLUSIVE MODE")
            yield
    else:
        with closing(sqlite3.connect(str(database.url.database), isolation_level=None, timeout=60)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")


def test_a_child_is_replaced_and_the_worker_stops_while_the_sweep_waits_for_the_database(
    world: Any, tmp_path: Path
) -> None:
    worker = world.start_worker("--concurrency=1", "--with-sweeper", app="shop")
    world.wait_for_log(worker, "ready.")
    with locked_out(world.engine.database):
        world.wait_until(lambda: len(children_of(worker.process.pid)) == 2)  # the pool's, and the one that sweeps

        os.kill(min(children_of(worker.process.pid)), signal.SIGKILL)
        world.wait_for_log(worker, "SIGKILL")
        world.app.send_task("shop.note_sale", [str(tmp_path / "sold")], queue="orders")
        world.wait_until((tmp_path / "sold").exists)

        assert worker.stop() == 0


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_children_that_are_forked_all_the_time_beside_sweeps_execute_everything_once(world: Any) -> None:
    worker = world.start_worker("--max-tasks-per-child=1", "--with-sweeper", sweep_interval="PT0.1S")
    connected: set[str] = set()

    def have_completed() -> bool:
        connected.update(name for (name,) in world.read("SELECT application_name FROM pg_stat_activity"))
        return {world.status(run) for run in runs} == {"COMPLETED"}

    runs = [world.create_run("arithmetic", number=number) for number in range(8)]
    world.wait_until(have_completed)

    assert world.read("SELECT DISTINCT attempt, crashes, poll_crashes FROM workflow_stages") == [(1, 0, 0)]
    [(workers,)] = world.read("SELECT count(DISTINCT worker_id) FROM workflow_attempts")
    assert workers >= 24  # two stages and a poll of each run
    assert f"workflow_engine:{worker.process.pid}" not in connected  # forks copy no connection
