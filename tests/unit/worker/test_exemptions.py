"""What an app says for tasks in general does not act on the engine's two tasks."""

from __future__ import annotations

import json
from typing import Any
from weakref import ref

import pytest
from celery import Celery, Task
from kombu.message import Message

from workflow_engine.settings import Settings
from workflow_engine.worker.app import install
from workflow_engine.worker.installation import get_installation
from workflow_engine.worker.names import EXECUTE_STAGE, SWEEP
from workflow_engine.worker.process.stage_requests import StageRequest
from workflow_engine.worker.wire.message_guards import JSON

#: Every default of Celery's for tasks, and as many ways to say something for all of them.
HOSTILE: dict[str, Any] = {
    "task_serializer": "pickle",
    "task_default_rate_limit": "1/h",
    "task_default_priority": 9,
    "task_time_limit": 1,
    "task_soft_time_limit": 1,
    "task_track_started": True,
    "task_acks_late": False,
    "task_acks_on_failure_or_timeout": False,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": False,
    "task_store_eager_result": True,
    "task_store_errors_even_if_ignored": True,
    "task_annotations": {
        "*": {"rate_limit": "1/h", "time_limit": 1, "acks_late": False, "max_retries": 9, "@run": lambda run: run},
        EXECUTE_STAGE: {"ignore_result": False},
    },
    "task_always_eager": True,
}


class HostileTask(Task):
    abstract = True
    ignore_result = False
    acks_late = False
    priority = 9
    rate_limit = "1/h"
    time_limit = 1
    autoretry_for = (Exception,)
    throws = (Exception,)
    Strategy = "nowhere:at_all"
    Request = "nowhere:AtAll"

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("not for this task")

    before_start = on_success = on_failure = after_return = on_retry = __call__


def build_engine() -> Any:
    raise AssertionError("no engine is needed here")


def installed(task_cls: type[Any] | None = None, **configuration: Any) -> Any:
    app: Any = Celery("shop", task_cls=task_cls, set_as_current=False)
    app.conf.update(configuration)
    install(app, build_engine, settings=Settings.load())
    app.finalize()
    return app


def attributes(task: Any) -> dict[str, Any]:
    """Return what Celery reads of a task."""
    names = [name for name in dir(Task) if not name.startswith("_") and name not in ("app", "backend", "request_stack")]
    values = {name: getattr(task, name) for name in names if name != "request"}
    return {
        name: getattr(value, "__qualname__", value if not callable(value) else type(value).__name__)
        for name, value in values.items()
    }


@pytest.mark.parametrize("name", [EXECUTE_STAGE, SWEEP])
def test_neither_defaults_nor_annotations_nor_a_base_class_reach_our_tasks(name: str) -> None:
    ours, theirs = (app.tasks[name] for app in (installed(), installed(HostileTask, **HOSTILE)))

    assert attributes(theirs) == attributes(ours)
    assert (ours.acks_late, ours.reject_on_worker_lost, ours.ignore_result, ours.max_retries) == (True, False, True, 0)
    assert (ours.rate_limit, ours.time_limit, ours.soft_time_limit, ours.priority) == (None, None, None, None)
    assert not isinstance(theirs, HostileTask)


def make_request(app: Any) -> Any:
    message = Message(
        body=json.dumps([["id", 1], {}, {}]).encode(),
        content_type="application/json",
        content_encoding="utf-8",
        headers={"task": EXECUTE_STAGE, "id": "one"},
        accept=JSON,
    )
    return StageRequest(message, app=app, hostname="here", task=app.tasks[EXECUTE_STAGE])


def test_the_body_goes_to_the_pool_as_it_was_read_whatever_content_the_app_accepts() -> None:
    request = make_request(installed(accept_content=["pickle"]))

    assert (request.body, request.content_type) == ([["id", 1], {}, {}], None)


class PoolResult:
    """What a pool of processes keeps of a job, with the limits that it has for all of them."""

    _soft_timeout: float | None = 1.0
    _timeout: float | None = 2.0


def test_the_time_limits_of_a_pool_are_lifted_by_values_that_do_not_mean_its_own() -> None:
    request, result = make_request(installed()), PoolResult()

    request._apply_result = ref(result)

    assert (result._soft_timeout, result._timeout) == (0, 0)
    assert request._apply_result() is result


def test_a_lost_connection_to_the_broker_ends_no_stage_and_the_end_of_the_worker_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = installed()
    request: Any = make_request(app)
    ended: list[Any] = []
    monkeypatch.setattr("celery.worker.request.Request.cancel", lambda _, pool: ended.append(pool))

    request.cancel("pool")
    assert ended == []

    get_installation(app).stopping.set()
    request.cancel("pool")
    assert ended == ["pool"]
