"""What a worker does when it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from workflow_engine import StageContext, WorkflowBuilder, WorkflowRuntime, stage
from workflow_engine.settings import Settings
from workflow_engine.testing.processes import free_port
from workflow_engine.worker.app import create_app
from workflow_engine.worker.installation import get_installation
from workflow_engine.worker.process.worker_step import add_queues, list_consumed
from workflow_engine.worker.wire.queues import check_queues


@stage
def increment(ctx: StageContext[int]) -> int:
    return ctx.input + 1


counting = WorkflowBuilder("counting", input=int).pipe(increment).build()


#: A process of its own, as the helper sets up logging and makes its app everybody's default.
HELPED = """
import sys
from datetime import timedelta
from celery import Celery
from celery.contrib.testing.worker import start_worker
from workflow_engine import StageContext, WorkflowBuilder, WorkflowRuntime, stage

app = Celery("shop", broker=sys.argv[1], backend="cache+memory://")

@app.task
def double(number):
    return 2 * number

@stage
def increment(ctx: StageContext[int]) -> int:
    return ctx.input + 1

counting = WorkflowBuilder("counting", input=int).pipe(increment).build()
runtime = WorkflowRuntime(counting, database_url=sys.argv[2], app=app)
with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False):
    print(double.delay(4).get(timeout=60), runtime.create_run(counting, 1).wait(timedelta(seconds=60)))
"""


def test_a_broker_that_is_down_does_not_keep_a_worker_from_starting() -> None:
    app = create_app(Settings.load(broker_url=f"redis://127.0.0.1:{free_port()}/0"))

    assert check_queues(app, ["workflow"]) is None


@pytest.mark.parametrize("broker", ["memory", "redis"])
def test_a_worker_of_celery_s_own_helper_for_tests_executes_stages_beside_tasks(
    request: pytest.FixtureRequest, tmp_path: Path, broker: str
) -> None:
    url = "memory://" if broker == "memory" else request.getfixturevalue("redis_url")
    command = [sys.executable, "-c", HELPED, url, f"sqlite:///{tmp_path / 'helped.db'}"]

    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)

    assert done.stdout == "8 2\n", done.stderr[-3000:]


@pytest.mark.parametrize(
    ("selected", "excluded", "consumed"),
    [
        ([], [], ["workflow.control", "workflow"]),
        (["celery"], [], []),
        (["celery", "workflow"], [], ["workflow"]),
        ([], ["workflow"], ["workflow.control"]),
    ],
)
def test_a_worker_consumes_the_engine_s_queues_unless_it_is_told_otherwise(
    selected: list[str], excluded: list[str], consumed: list[str]
) -> None:
    app: Any = Celery("shop", broker="memory://", set_as_current=False)
    WorkflowRuntime(counting, database_url="sqlite://", app=app)
    if excluded:  # as on the command line, where -X comes after the signal
        add_queues(instance=SimpleNamespace(app=app))
    app.amqp.queues.select(selected)
    app.amqp.queues.deselect(excluded)

    assert list_consumed(app, get_installation(app)) == consumed
