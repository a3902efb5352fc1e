"""How a runtime is made, before it connects to anything."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from workflow_engine import (
    NoInput,
    Settings,
    StageContext,
    WorkflowBuilder,
    WorkflowRuntime,
    create_workflow_runtime,
    stage,
)
from workflow_engine.errors import ConfigurationError, DefinitionError
from workflow_engine.worker.installation import get_installation

if TYPE_CHECKING:
    from collections.abc import Callable


@stage(queue="gpu")
def train(ctx: StageContext[NoInput]) -> int:
    return 1


training = WorkflowBuilder("training").pipe(train).build()
UNREACHABLE = "postgresql://nobody:sesame@127.0.0.1:1/nothing"


def test_settings_come_from_arguments_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_QUEUE", "from-environment")
    monkeypatch.setenv("WORKFLOW_ENGINE_LEASE", "PT40S")

    settings = WorkflowRuntime(database_url="sqlite://", queue="given").settings

    assert (settings.queue, settings.lease, settings.database_url) == ("given", timedelta(seconds=40), "sqlite://")


def test_settings_may_be_given_whole() -> None:
    settings = Settings(database_url="sqlite://")

    assert WorkflowRuntime(settings=settings).settings is settings
    with pytest.raises(ConfigurationError, match=r"not both .given: database_url, queue"):
        WorkflowRuntime(settings=settings, database_url="sqlite://", queue="q")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WorkflowRuntime(databse_url="sqlite://"), "databse_url"),
        (lambda: WorkflowRuntime(database_url="mysql://host/name"), "not supported|cannot be used"),
        (lambda: WorkflowRuntime(database_url="nonsense"), "cannot be used"),
        (lambda: WorkflowRuntime(queue="a b"), "queue"),
    ],
)
def test_settings_that_do_not_fit_are_named(make: Callable[[], WorkflowRuntime], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("workflows", [[train], {"other": training}, "training", 3])
def test_what_is_no_workflow_is_refused(workflows: Any) -> None:
    with pytest.raises(DefinitionError):
        WorkflowRuntime(workflows, database_url="sqlite://")


def test_making_a_runtime_connects_to_nothing() -> None:
    runtime = create_workflow_runtime([training], database_url=UNREACHABLE, broker_url="redis://127.0.0.1:1/0")

    assert runtime.registry.ids() == ("training",)
    assert runtime.get_workflow_priority("training") == 5
    runtime.close()


def test_installing_connects_to_nothing_and_brings_the_queues_that_stages_ask_for() -> None:
    app = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)

    runtime = WorkflowRuntime(training, database_url=UNREACHABLE, app=app, queue="shop")

    assert runtime.app is app
    assert get_installation(app).list_queues() == ["shop.control", "shop", "gpu"]
    assert get_installation(app).settings is runtime.settings


def test_an_app_of_our_own_is_made_when_none_is_given() -> None:
    runtime = WorkflowRuntime(training, database_url=UNREACHABLE, broker_url="redis://127.0.0.1:1/0")

    assert runtime.app.conf.broker_url == "redis://127.0.0.1:1/0"
    assert runtime.app is runtime.app
    assert get_installation(runtime.app).settings is runtime.settings
    runtime.close()
