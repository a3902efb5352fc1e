"""Workers on RabbitMQ: what is different there from Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Producer

from workflow_engine.store.records import Hint
from workflow_engine.testing.services import RabbitServer

pytestmark = pytest.mark.long(8)

STAGE = "workflow_engine.execute_stage"
UNKNOWN = "01890000-0000-7000-8000-000000000000"
EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
HEADERS = {"lang": "py", "task": STAGE, "id": "forged", "timelimit": [None, None], "eta": None, "expires": None}
CANVAS = {"task": "celery.ping", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": True}

#: Bodies, and what else is unusual about the message.
FORGED: list[tuple[Any, dict[str, Any]]] = [
    (b"certainly not json", {}),
    (b"\xff\xfe\x00", {}),
    (b"", {}),
    ("null", {}),
    (json.dumps({"a": 1}), {}),
    (json.dumps([1]), {}),
    (json.dumps([[UNKNOWN, 1], {}, {**EMBED, "callbacks": [CANVAS]}]), {}),
    (json.dumps([[UNKNOWN, 1], {}, EMBED]), {"headers": {**HEADERS, "eta": "9999-12-31T23:59:59+00:00"}}),
    (json.dumps([[UNKNOWN, 1], {}, EMBED]), {"headers": {**HEADERS, "task": "nobody.knows"}}),
    (json.dumps([[UNKNOWN, 1], {}, EMBED]), {"headers": {}}),
    (json.dumps([[UNKNOWN, 1], {}, EMBED]), {"headers": {**HEADERS, "id": 7}}),
    (json.dumps([[UNKNOWN, 1], {}, EMBED]).encode(), {"content_encoding": "binary"}),
    (b"\x80\x04N.", {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
    (json.dumps([[UNKNOWN, 1, "x" * 500_000], {}, EMBED]), {}),
    (json.dumps([[UNKNOWN, 1], {}, EMBED]), {}),
]


@pytest.fixture
def broker_url(rabbit_url: str) -> str:
    return rabbit_url


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_survives_messages_that_nobody_of_ours_has_sent(world: Any, pool: str) -> None:
    worker = world.start_worker(f"--pool={pool}", sweep_in_workers="never")
    world.wait_for_log(worker, " ready.")
    with Connection(world.settings.broker_url) as connection:
        producer = Producer(connection.channel())
        for body, changes in FORGED:
            producer.publish(
                body,
                routing_key="workflow",
                **{"content_type": "application/json", "content_encoding": "utf-8", "headers": HEADERS, **changes},
            )

    world.wait_for(world.create_run("arithmetic", number=20))

    assert worker.is_running()
    assert worker.stop() == 0
    assert world.dispatcher.depths(["workflow"]) == {"workflow": 0}


def test_a_worker_that_is_told_its_queues_makes_them_as_publishers_do(world: Any) -> None:
    worker = world.start_worker("--queues=workflow,printer", sweep_in_workers="never")
    world.wait_for_log(worker, " ready.")

    run_id = world.create_run("printing", number=1)

    world.wait_for(run_id)
    assert "PRECONDITION_FAILED" not in worker.log


def test_a_queue_of_other_arguments_is_named_with_a_remedy_when_the_worker_refuses_to_start(world: Any) -> None:
    with Connection(world.settings.broker_url) as connection:
        connection.channel().queue_declare("workflow", durable=True, auto_delete=False)

    worker = world.start_worker("--pool=solo")

    assert worker.process.wait(60) != 0
    assert "inequivalent arg 'x-max-priority' for queue 'workflow'" in worker.log
    assert "rabbitmqctl delete_queue" in worker.log


def test_an_execution_is_ended_by_force(world: Any, gate: Any) -> None:
    worker = world.start_worker("--pool=prefork", "--concurrency=1", sweep_in_workers="never")
    world.wait_for_log(worker, " ready.")
    world.create_run("holding", **gate.order)
    world.wait_until(lambda: len(gate.pids) == 1)
    hints = [
        Hint(*row)
        for row in world.read(
            "SELECT id, dispatch_number, run_id, stage_id, queue, dispatch_priority FROM workflow_stages"
        )
    ]

    world.dispatcher.terminate(hints)

    world.wait_until(lambda: not Path(f"/proc/{gate.pids[0]}").exists())
    world.wait_for(world.create_run("arithmetic", number=1))  # its slot is free again


class TestOnAServerOfItsOwn:
    @pytest.fixture
    def server(self) -> Iterator[RabbitServer]:
        # A message may be held for two seconds, where the default is half an hour.
        with RabbitServer(consumer_timeout=2000, channel_tick_interval=500) as server:
            yield server

    @pytest.fixture
    def broker_url(self, server: RabbitServer) -> str:
        return server.url()

    def test_a_stage_that_runs_longer_than_rabbitmq_lets_it_hold_its_message_goes_on_and_so_does_its_worker(
        self, world: Any, gate: Any
    ) -> None:
        worker = world.start_worker("--pool=prefork", sweep_in_workers="never")
        run_id = world.create_run("holding", **gate.order)

        world.wait_for_log(worker, "delivery acknowledgement on channel")
        world.wait_until(lambda: worker.log.count("ready.") + worker.log.count("mingle: all alone") >= 3)
        gate.open()

        world.wait_for(run_id)
        world.wait_for(world.create_run("arithmetic", number=1))
        assert len(gate.pids) == 1
        assert worker.is_running()

    def test_a_worker_comes_back_to_a_server_that_was_killed(self, world: Any, server: RabbitServer) -> None:
        worker = world.start_worker("--pool=prefork", sweep_in_workers="always", dispatch_slack="1")
        world.wait_for(world.create_run("arithmetic", number=1))
        server.kill()
        lost = world.create_run("arithmetic", number=2)

        server.start()

        world.wait_for(lost)
        assert worker.is_running()
