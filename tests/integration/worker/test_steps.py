"""What a worker does when it starts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from workflow_engine import StageContext, WorkflowBuilder, WorkflowRuntime, stage
from workflow_engine.settings import Settings
from workflow_engine.testing.processes import free_port
from workflow_engine.worker.app import create_app
from workflow_engine.worker.installation import get_installation
from workflow_engine.worker.steps import add_queues, check_lists, list_consumed


@stage
def increment(ctx: StageContext[int]) -> int:
    return ctx.input + 1


counting = WorkflowBuilder("counting", input=int).pipe(increment).build()


@pytest.fixture(params=["memory", "redis"])
def app(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An app of a team's, as its tests have it."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    made: Any = Celery("shop", broker=url, backend="cache+memory://", set_as_current=False)

    @made.task(name="shop.double", shared=False)
    def double(number: int) -> int:
        return 2 * number

    yield made
    made.close()


def test_a_broker_that_is_down_does_not_keep_a_worker_from_starting() -> None:
    app = create_app(Settings.load(broker_url=f"redis://127.0.0.1:{free_port()}/0"))

    assert check_lists(app, ["workflow"]) is None


@pytest.mark.filterwarnings("ignore")  # of Celery's helper
def test_a_worker_of_celery_s_own_helper_for_tests_executes_stages_beside_tasks(app: Any, database_url: str) -> None:
    with (
        WorkflowRuntime(counting, database_url=database_url, app=app, queue="helped") as runtime,
        start_worker(app, pool="threads", concurrency=2, perform_ping_check=False),
    ):
        assert app.tasks["shop.double"].delay(4).get(timeout=60) == 8
        assert runtime.create_run(counting, 1).wait(timedelta(seconds=60)) == 2


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
