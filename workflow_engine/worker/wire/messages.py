"""What a hint looks like on the wire: a Celery message (protocol 2) that carries ids and nothing else."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from workflow_engine.priorities import HIGHEST_PRIORITY
from workflow_engine.worker.names import EXECUTE_STAGE, SWEEP
from workflow_engine.worker.wire.broker_priorities import broker_priority

if TYPE_CHECKING:
    from workflow_engine.store.records import Hint
    from workflow_engine.worker.wire.supported_brokers import Broker

NO_CANVAS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def task_id(hint: Hint) -> str:
    """Return a task id that tells what it is about, unique per dispatch: run/stage/number-stage run."""
    return f"{hint.run_id}/{hint.stage_id}/{hint.dispatch_number}-{hint.stage_run_id[-6:]}"


def body(hint: Hint) -> str:
    """Return the body: arguments, keyword arguments, and an empty canvas."""
    return _body([hint.stage_run_id, hint.dispatch_number])


def tick_body() -> str:
    """Return the body of a tick, which has no arguments."""
    return _body([])


def _body(arguments: list[Any]) -> str:
    return json.dumps([arguments, {}, NO_CANVAS], separators=(",", ":"))


def headers(hint: Hint) -> dict[str, Any]:
    """Return the headers that Celery's worker and monitors read."""
    return _headers(EXECUTE_STAGE, task_id(hint), f"stage {hint.stage_id} of run {hint.run_id}")


def _headers(task: str, identity: str, shown: str) -> dict[str, Any]:
    return {
        "lang": "py",
        "task": task,
        "id": identity,
        "root_id": identity,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": shown,
        "kwargsrepr": "",
        "origin": f"{os.getpid()}@{socket.gethostname()}",
        "ignore_result": True,
    }


def publish_options(hint: Hint, broker: Broker) -> dict[str, Any]:
    """Return how to publish the hint: to its queue by the default exchange, once, at its priority on that broker."""
    return _options(hint.queue, broker_priority(hint.priority, broker), headers(hint))


def tick_options(queue: str, broker: Broker) -> dict[str, Any]:
    """Return how to publish a tick: before everything else."""
    return _options(queue, broker_priority(HIGHEST_PRIORITY, broker), _headers(SWEEP, str(uuid4()), "()"))


def _options(queue: str, priority: int, named: dict[str, Any]) -> dict[str, Any]:
    return {
        "exchange": "",
        "routing_key": queue,
        "priority": priority,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": named,
        "correlation_id": named["id"],
        "reply_to": "",
    }
