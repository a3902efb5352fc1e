"""What a hint looks like on the wire: a Celery message (protocol 2) that carries ids and nothing else."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from workflow_engine.worker.names import EXECUTE_STAGE
from workflow_engine.worker.priorities import broker_priority

if TYPE_CHECKING:
    from workflow_engine.store.records import Hint
    from workflow_engine.worker.transports import Broker

NO_CANVAS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def task_id(hint: Hint) -> str:
    """Return a task id that tells what it is about, unique per dispatch: run/stage/number-stage run."""
    return f"{hint.run_id}/{hint.stage_id}/{hint.dispatch_number}-{hint.stage_run_id[-6:]}"


def body(hint: Hint) -> str:
    """Return the body: arguments, keyword arguments, and an empty canvas."""
    return json.dumps([[hint.stage_run_id, hint.dispatch_number], {}, NO_CANVAS], separators=(",", ":"))


def headers(hint: Hint) -> dict[str, Any]:
    """Return the headers that Celery's worker and monitors read."""
    identity = task_id(hint)
    return {
        "lang": "py",
        "task": EXECUTE_STAGE,
        "id": identity,
        "root_id": identity,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": f"stage {hint.stage_id} of run {hint.run_id}",
        "kwargsrepr": "",
        "origin": f"{os.getpid()}@{socket.gethostname()}",
        "ignore_result": True,
    }


def publish_options(hint: Hint, broker: Broker) -> dict[str, Any]:
    """Return how to publish the hint: to its queue by the default exchange, once, at its priority on that broker."""
    return {
        "exchange": "",
        "routing_key": hint.queue,
        "priority": broker_priority(hint.priority, broker),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": headers(hint),
        "correlation_id": task_id(hint),
        "reply_to": "",
    }
