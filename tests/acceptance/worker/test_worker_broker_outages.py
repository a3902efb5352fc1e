from __future__ import annotations

import time
from typing import Any

import pytest

from workflow_engine.store.database import Database


@pytest.fixture
def broker_url(private_redis_server: Any) -> str:
    url: str = private_redis_server.url()
    return url


def make_hints_look_lost(world: Any) -> None:
    """Move all dispatches into the past, so that the test need not wait until the sweep believes in a loss."""
    database: Database = world.engine.database
    database.transact(lambda tx: tx.exec_driver_sql("UPDATE workflow_stages SET dispatched_at = 0"))


def test_creating_a_run_takes_no_notice_of_a_broker_that_is_down(world: Any, private_redis_server: Any) -> None:
    private_redis_server.kill()
    started = time.monotonic()

    run_id = world.create_run("arithmetic", number=1)

    assert time.monotonic() - started < 10
    assert world.status(run_id) == "PENDING"
    private_redis_server.start()
    make_hints_look_lost(world)
    world.start_worker("--pool=prefork", sweep_in_workers="always")
    world.wait_for(run_id)


def test_a_worker_comes_back_to_a_broker_that_was_killed_and_forgot_everything(
    world: Any, private_redis_server: Any
) -> None:
    worker = world.start_worker("--pool=prefork", sweep_in_workers="always")
    world.wait_for(world.create_run("arithmetic", number=1))
    private_redis_server.kill()
    lost = world.create_run("arithmetic", number=2)

    private_redis_server.start()

    make_hints_look_lost(world)
    world.wait_for(lost)
    assert worker.is_running()
