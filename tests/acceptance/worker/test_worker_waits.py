"""Suspensions whose time runs out while nobody can ask."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import World

    from workflow_engine.testing.services import PostgresServer

pytestmark = pytest.mark.long(8)


@pytest.fixture
def database_url(private_postgres_server: PostgresServer) -> str:
    return private_postgres_server.create_database()


def test_what_came_in_time_is_taken_though_the_database_was_away_until_after_max_wait(
    world: World, private_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    ready, journal = tmp_path / "ready", tmp_path / "journal"
    journal.touch()
    world.start_worker()
    taken, late = (
        world.create_run("ordering", gate=str(gate), journal=str(journal)) for gate in (ready, tmp_path / "never")
    )
    world.wait_until(lambda: world.read("SELECT count(*) FROM workflow_stages WHERE status = 'SUSPENDED'") == [(2,)])
    ends = time.monotonic() + 5

    ready.touch()
    private_postgres_server.stop_immediate()
    threading.Event().wait(ends - time.monotonic())
    private_postgres_server.start()
    world.engine.database.pool.dispose()

    world.wait_for(taken)
    world.wait_for(late, "FAILED")
    world.wait_until(lambda: len(journal.read_text().split()) == 1)
    [(code, polls)] = world.read("SELECT error_code, polls FROM workflow_stages WHERE run_id = '{run_id}'", run_id=late)
    assert (code, polls) == ("WAIT_TIMEOUT", 1)
