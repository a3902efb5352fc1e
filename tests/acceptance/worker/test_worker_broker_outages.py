from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis

from workflow_engine.store.connection.database import Database

pytestmark = pytest.mark.long(8)


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


@contextmanager
def setting(client: Any, name: str, value: object) -> Iterator[None]:
    [before] = client.config_get(name).values()
    client.config_set(name, value)
    yield
    client.config_set(name, before)


@contextmanager
def being_a_replica(client: Any) -> Iterator[None]:
    client.replicaof("127.0.0.1", "1")
    yield
    client.replicaof("NO", "ONE")


@contextmanager
def running_a_script(client: Any) -> Iterator[None]:
    def run() -> None:
        with suppress(redis.ResponseError):  # it is killed
            client.eval("while true do end", 0)

    with setting(client, "lua-time-limit", 10):
        thread = threading.Thread(target=run)
        thread.start()
        yield
        client.script_kill()
        thread.join(10)


@pytest.mark.parametrize(
    ("refuse", "words"),
    [
        (being_a_replica, "read only replica"),
        (lambda client: setting(client, "maxmemory", 1), "used memory > 'maxmemory'"),
        (lambda client: setting(client, "min-replicas-to-write", 1), "NOREPLICAS"),
        (running_a_script, "BUSY"),
    ],
)
def test_a_worker_waits_for_a_redis_that_answers_and_refuses_and_goes_on_when_it_works_again(
    world: Any, private_redis_server: Any, gate: Any, refuse: Callable[[Any], Any], words: str
) -> None:
    worker = world.start_worker("--pool=prefork", "--concurrency=1", sweep_in_workers="always", dispatch_slack="1")
    held = world.create_run("holding", **gate.order)
    world.wait_until(lambda: gate.pids)
    waiting = world.create_run("arithmetic", number=2)
    with redis.Redis.from_url(private_redis_server.url()) as client, refuse(client):
        refused = world.create_run("arithmetic", number=1)
        gate.open()  # the message is acknowledged while Redis refuses
        world.wait_for(held)
        world.wait_for_log(worker, "Trying again in")

    make_hints_look_lost(world)
    world.wait_for(waiting)
    world.wait_for(refused)

    assert words in worker.log
    assert worker.is_running()
    assert len(gate.pids) == 1


def test_a_worker_starts_though_redis_goes_away_while_it_greets_its_neighbours(
    world: Any, private_redis_server: Any
) -> None:
    worker = world.start_worker("--pool=prefork", sweep_in_workers="never")
    world.wait_for_log(worker, "mingle: searching for neighbors")

    private_redis_server.kill()
    world.wait_for_log(worker, "Trying again in")
    private_redis_server.start()

    world.wait_for_log(worker, " ready.")
    assert worker.is_running()
