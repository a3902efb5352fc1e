"""Hints of this release and of 0.1.0 are the same messages in the same lists, in apps of both kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

ROOT = Path(__file__).parents[3]
WHEEL = next((ROOT / "tests" / "releases").glob("celery_workflow_engine-0.1.0-*.whl"))

PUBLISH = """
import sys
from celery import Celery
from workflow_engine.settings import Settings
from workflow_engine.store.records import Hint
from workflow_engine.worker.app import create_app, install
try:
    from workflow_engine.worker.wire.dispatcher import CeleryDispatcher
except ImportError:  # 0.1.0
    from workflow_engine.worker.dispatcher import CeleryDispatcher

settings = Settings.load(broker_url=sys.argv[1])
app = Celery("shop", broker=sys.argv[1]) if sys.argv[2] == "theirs" else create_app(settings)
install(app, lambda: None, settings=settings)
dispatcher = CeleryDispatcher(app, settings)
dispatcher.dispatch(
    [Hint("01890000-0000-7000-8000-000000000000", 1, "run", f"stage-{number}", "workflow", number) for number in range(11)]
)
assert dispatcher.depths(["workflow"]) == {"workflow": 11}
dispatcher.close()
"""
CONSUME = """
import sys
from celery import Celery
from workflow_engine.settings import Settings
from workflow_engine.worker.app import create_app, install

settings = Settings.load(broker_url=sys.argv[1])
app = Celery("shop", broker=sys.argv[1]) if sys.argv[2] == "theirs" else create_app(settings)
install(app, lambda: None, settings=settings)
channel = app.connection_for_read().channel()
for _ in range(11):
    print(channel.basic_get("workflow", no_ack=True).headers["id"])
"""


def run(script: str, url: str, kind: str, release: Path | None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(release or ROOT)}
    command = [sys.executable, "-P", "-c", script, url, kind]  # -P: without the current directory
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout


def take_lists(url: str) -> dict[bytes, list[Any]]:
    with redis.Redis.from_url(url) as client:
        held = {key: [json.loads(entry) for entry in client.lrange(key, 0, -1)] for key in client.keys("workflow*")}
        client.flushdb()
    for entry in (entry for entries in held.values() for entry in entries):
        del entry["properties"]["delivery_tag"], entry["headers"]["origin"]
    return held


@pytest.mark.parametrize("kind", ["theirs", "ours"])
def test_hints_of_both_releases_are_the_same_messages_in_the_same_lists(redis_url: str, kind: str) -> None:
    published = []
    for release in (WHEEL, None):
        run(PUBLISH, redis_url, kind, release)
        published.append(take_lists(redis_url))

    assert len(published[0]) == 10
    assert published[0] == published[1]


@pytest.mark.parametrize("kind", ["theirs", "ours"])
def test_a_worker_of_0_1_0_takes_hints_of_this_release_in_their_order(redis_url: str, kind: str) -> None:
    run(PUBLISH, redis_url, kind, None)

    taken = run(CONSUME, redis_url, kind, WHEEL).split()

    assert [identity.split("/")[1] for identity in taken[:9]] == [f"stage-{priority}" for priority in range(10, 1, -1)]
    assert len(taken) == 11
