"""What anybody who can write to the broker may put there: the worker drops it, says so, and goes on."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

import pytest
import redis


@pytest.fixture
def broker_url(redis_url: str) -> str:
    return redis_url


STAGE = "workflow_engine.execute_stage"
UNKNOWN = "01890000-0000-7000-8000-000000000000"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def envelope(body: Any = None, *, raw: bytes | None = None, drop: tuple[str, ...] = (), **changes: Any) -> bytes:
    """Return a message as Celery writes it, with some parts changed."""
    content = json.dumps([[UNKNOWN, 1], {}, EMBED] if body is None else body).encode() if raw is None else raw
    identity = str(uuid4())
    message = {
        "body": base64.b64encode(content).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": STAGE,
            "id": identity,
            "root_id": identity,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "",
            "kwargsrepr": "",
            "origin": "elsewhere",
            **changes.pop("headers", {}),
        },
        "properties": {
            "correlation_id": identity,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "workflow"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            **changes.pop("properties", {}),
        },
        **changes,
    }
    return json.dumps({key: value for key, value in message.items() if key not in drop}).encode()


def hint(*arguments: Any, **options: Any) -> bytes:
    return envelope([list(arguments), options, EMBED])


CANVAS = {"task": "celery.ping", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": True}

CORPUS: dict[str, bytes] = {
    "01 not JSON": b"certainly not json",
    "02 empty": b"",
    "03 null": b"null",
    "04 a list": b"[1, 2]",
    "05 a number": b"42",
    "06 binary": bytes(range(256)),
    "07 body not base64": envelope(raw=b"").replace(b'"body": ""', b'"body": "A"'),
    "08 nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "08b an object nested 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "09 payload is an object": envelope({"a": 1}),
    "10 payload is a list of one": envelope([1]),
    "11 payload is bad JSON": envelope(raw=b"{["),
    "12 pickle": envelope(raw=b"\x80\x04N.", **{"content-type": "application/x-python-serialize"}),
    "13 yaml": envelope(raw=b"a: 1", **{"content-type": "application/x-yaml"}),
    "14 __type__ garbage": hint({"__type__": "uuid", "__value__": "garbage"}, 1),
    "15 payload nested 100,000 deep": envelope(raw=b"[" * 100_000 + b"]" * 100_000),
    "16 arguments are a string": envelope(["ab", {}, EMBED]),
    "17a missing arguments": hint(),
    "17b too many arguments": hint(UNKNOWN, 1, 2),
    "17c arguments of a wrong type": hint(1, UNKNOWN),
    "17d keyword arguments": hint(UNKNOWN, 1, force=True),
    "18 unknown task": envelope(headers={"task": "nobody.knows"}),
    "18b task is a list": envelope(headers={"task": ["workflow_engine.execute_stage"]}),
    "19 forged callbacks": envelope([[UNKNOWN, 1], {}, {**EMBED, "callbacks": [CANVAS]}]),
    "19b forged chain": envelope([[UNKNOWN, 1], {}, {**EMBED, "chain": [CANVAS]}]),
    "20 eta in the year 9999": envelope(headers={"eta": "9999-12-31T23:59:59+00:00"}),
    "21a bad eta": envelope(headers={"eta": "soon"}),
    "21b bad expires": envelope(headers={"expires": {"a": 1}}),
    "21c a time limit that kills": envelope(headers={"timelimit": [0.001, 0.001]}),
    "22 large arguments": hint(UNKNOWN, 1, "x" * 2_000_000),
    "23a without headers": envelope(drop=("headers",)),
    "23b without properties": envelope(drop=("properties",)),
    "23c without a delivery tag": envelope(properties={"delivery_tag": None}),
    "23d without delivery info": envelope(properties={"delivery_info": None}),
    "23e without a body": envelope(drop=("body",)),
    "23f without an id": envelope(headers={"id": None}),
    "24a an unknown stage run": hint(UNKNOWN, 1),
    "24b a dispatch number that is true": hint(UNKNOWN, True),
    "24c a negative dispatch number": hint(UNKNOWN, -1),
    "24d a dispatch number beyond 64 bits": hint(UNKNOWN, 2**70),
    "24e SQL": hint("'; DROP TABLE workflow_runs; --", 1),
    "25 an old dispatch number of an unknown row": hint(UNKNOWN, 1),
}


def flood(world: Any) -> None:
    with redis.Redis.from_url(world.settings.broker_url) as client:
        client.lpush("workflow", *CORPUS.values())


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_survives_every_malformed_or_forged_message(world: Any, pool: str) -> None:
    worker = world.start_worker(f"--pool={pool}", sweep_in_workers="never")
    world.wait_for_log(worker, "ready.")
    flood(world)

    run_id = world.create_run("arithmetic", number=20)

    world.wait_for(run_id)
    assert worker.is_running()
    assert world.dispatcher.depths(["workflow"]) == {"workflow": 0}
    assert worker.stop() == 0
    with redis.Redis.from_url(world.settings.broker_url) as client:
        assert client.hlen("unacked") == 0


def test_what_was_left_over_does_not_end_the_next_worker_either(world: Any) -> None:
    flood(world)

    first = world.start_worker("--pool=prefork", sweep_in_workers="never")
    world.wait_until(lambda: world.dispatcher.depths(["workflow"]) == {"workflow": 0})

    assert first.stop() == 0
    second = world.start_worker("--pool=prefork", sweep_in_workers="never")
    run_id = world.create_run("arithmetic", number=1)
    world.wait_for(run_id)
    assert second.is_running()


def test_a_duplicate_message_does_not_execute_a_stage_again(world: Any, gate: Any) -> None:
    run_id = world.create_run("holding", **gate.order)
    with redis.Redis.from_url(world.settings.broker_url) as client:
        [key] = [name for name in client.keys("workflow*") if client.type(name) == b"list"]
        [message] = client.lrange(key, 0, -1)
        client.lpush(key, message, message)

    world.start_worker("--pool=prefork", sweep_in_workers="never")

    world.wait_until(lambda: world.dispatcher.depths(["workflow"]) == {"workflow": 0})
    world.wait_until(lambda: gate.pids)
    gate.open()
    world.wait_for(run_id)
    assert len(gate.pids) == 1


def test_a_key_of_the_wrong_type_is_named_when_the_worker_refuses_to_start(world: Any) -> None:
    with redis.Redis.from_url(world.settings.broker_url) as client:
        client.set("workflow", "not a list")

    worker = world.start_worker("--pool=solo")

    assert worker.process.wait(30) != 0
    assert "'workflow' is a string" in worker.log
