from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from workflow_engine.errors import ConfigurationError
from workflow_engine.settings import Settings
from workflow_engine.worker.app import install
from workflow_engine.worker.configuration import check_configuration
from workflow_engine.worker.names import EXECUTE_STAGE, SWEEP


def build_engine() -> Any:
    raise AssertionError("installing builds no engine")


def make_app(**configuration: Any) -> Celery:
    app = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(configuration)
    return app


def installed(**configuration: Any) -> Any:
    app = make_app(**configuration)
    install(app, build_engine, settings=Settings.load())
    return app


def test_installing_reads_no_configuration_so_that_it_may_come_first() -> None:
    app: Any = Celery("shop", set_as_current=False)

    install(app, build_engine, settings=Settings.load())

    assert not app.configured
    app.config_from_object({"broker_url": "redis://127.0.0.1:1/0", "task_default_queue": "orders"})
    assert app.conf.task_default_queue == "orders"
    assert SWEEP in app.conf.beat_schedule


def test_installing_into_an_app_that_is_configured_already_adds_the_same() -> None:
    app: Any = make_app()
    _ = app.conf.task_default_queue

    install(app, build_engine, settings=Settings.load())

    assert SWEEP in app.conf.beat_schedule
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options["priority_steps"] == list(range(10))


def test_the_apps_own_settings_win() -> None:
    app = installed(
        worker_prefetch_multiplier=4,
        broker_transport_options={"visibility_timeout": 60, "priority_steps": [0, 5]},
        beat_schedule={"mine": {"task": "shop.mine", "schedule": 1}, SWEEP: {"task": SWEEP, "schedule": 60}},
    )

    assert app.conf.worker_prefetch_multiplier == 4
    assert app.conf.broker_transport_options == {"visibility_timeout": 60, "priority_steps": [0, 5]}
    assert set(app.conf.beat_schedule) == {"mine", SWEEP}
    assert app.conf.beat_schedule[SWEEP]["schedule"] == 60


def test_settings_that_break_priorities_are_told(caplog: pytest.LogCaptureFixture) -> None:
    app = installed(worker_prefetch_multiplier=4, broker_transport_options={"priority_steps": [0, 3, 6, 9]})

    check_configuration(app)

    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "priority_steps" in caplog.text
    assert "worker_prefetch_multiplier" in caplog.text


@pytest.mark.parametrize("content", ["pickle", "yaml", "application/x-python-serialize"])
def test_content_that_executes_code_is_refused(content: str) -> None:
    app = installed(accept_content=["json", content])

    with pytest.raises(ConfigurationError, match=content):
        check_configuration(app)


def test_ticks_neither_expire_nor_share_a_queue_with_stages() -> None:
    entry = installed().conf.beat_schedule[SWEEP]

    assert entry["options"] == {"queue": "workflow.control", "priority": 0}
    assert entry["schedule"] == timedelta(seconds=5)


def test_our_tasks_carry_their_own_delivery_options_whatever_the_app_says() -> None:
    app = installed(task_acks_late=False, task_reject_on_worker_lost=True, task_ignore_result=False)
    app.finalize()

    task = app.tasks[EXECUTE_STAGE]

    assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result, task.max_retries) == (True, False, True, 0)


def test_tasks_are_registered_on_the_app_alone() -> None:
    other = Celery("other", set_as_current=False)
    installed().finalize()

    other.finalize()

    assert EXECUTE_STAGE not in other.tasks


def test_an_app_serves_one_engine() -> None:
    app = installed()

    with pytest.raises(ConfigurationError, match="workflow engine already"):
        install(app, build_engine, settings=Settings.load())


def test_connections_of_the_app_are_guarded_even_if_it_was_asked_for_them_before() -> None:
    app = make_app()
    _ = app.amqp.queues

    install(app, build_engine, settings=Settings.load())

    assert type(app.connection().transport).__name__ == "GuardedTransport"
    assert app.connection().as_uri().startswith("redis://")


def test_connections_of_other_apps_stay_as_they_are() -> None:
    installed()

    assert type(make_app().connection().transport).__name__ == "Transport"
