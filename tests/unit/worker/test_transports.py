"""Which brokers are accepted, and when that is found out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.apps.worker import Worker

from workflow_engine.errors import ConfigurationError
from workflow_engine.settings import Settings
from workflow_engine.worker.app import create_app, install
from workflow_engine.worker.process.worker_step import check_memory
from workflow_engine.worker.wire.queues import engine_queue, find_queue_hazards
from workflow_engine.worker.wire.supported_brokers import check_broker

SUPPORTED = "supported are Redis .*RabbitMQ .*memory://"


def build_engine() -> Any:
    raise AssertionError("installing builds no engine")


def make_app(**configuration: Any) -> Celery:
    app = Celery("shop", set_as_current=False)
    app.conf.update(configuration)
    return app


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1/0",
        "rediss://127.0.0.1/0",
        "redis+socket:///tmp/redis.sock",
        "sentinel://127.0.0.1:26379",
        "redis://one/0;redis://two/0",
        "amqp://guest@localhost//",
        "amqps://guest@localhost//",
        "pyamqp://guest@localhost//",
        "amqp://one//;two",
        "memory://localhost/",
    ],
)
def test_redis_rabbitmq_and_memory_are_accepted(url: str) -> None:
    check_broker(make_app(broker_url=url))


@pytest.mark.parametrize(
    "url",
    [
        "filesystem://",
        "sqla+sqlite:///broker.db",
        "sqs://",
        "mongodb://localhost/jobs",
        "zookeeper://localhost",
        "nobodyknows://localhost",
        "redis://one/0;sqs://",
    ],
)
def test_every_other_broker_is_refused_by_one_line_that_names_those_that_are_supported(url: str) -> None:
    with pytest.raises(ConfigurationError, match=SUPPORTED) as caught:
        check_broker(make_app(broker_url=url))

    assert "\n" not in str(caught.value)


def test_a_password_in_a_refused_url_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_broker(make_app(broker_url="mongodb://user:hidden@localhost/jobs"))

    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "app",
    [
        Celery("by-argument", broker="filesystem://", set_as_current=False),
        make_app(broker_url="filesystem://"),
        create_app(Settings.load(broker_url="filesystem://")),
    ],
)
def test_a_broker_that_is_known_is_refused_when_the_engine_is_installed(app: Celery) -> None:
    with pytest.raises(ConfigurationError, match=SUPPORTED):
        install(app, build_engine, settings=Settings.load())


def test_a_broker_that_is_set_later_is_refused_when_it_is_used() -> None:
    app: Any = Celery("shop", set_as_current=False)
    install(app, build_engine, settings=Settings.load())
    app.conf.broker_url = "filesystem://"

    with pytest.raises(ConfigurationError, match=SUPPORTED):
        check_broker(app)


def test_a_broker_of_reading_alone_is_checked_as_well() -> None:
    with pytest.raises(ConfigurationError, match=SUPPORTED):
        check_broker(make_app(broker_url="redis://localhost/0", broker_read_url="filesystem://"))


def test_memory_serves_no_process_of_its_own() -> None:
    app = make_app(broker_url="memory://localhost/")
    worker = Worker.__new__(Worker)
    worker.app = app

    check_memory(SimpleNamespace(app=app))  # a worker inside an application
    with pytest.raises(ConfigurationError, match="within one process"):
        check_memory(worker)


def test_a_queue_of_ours_that_the_app_declares_without_priorities_is_a_hazard() -> None:
    app = make_app(broker_url="amqp://", task_queues=[engine_queue("workflow")])
    plain = make_app(broker_url="amqp://", task_queues={"workflow": {"exchange": "workflow"}})

    assert find_queue_hazards(app, ["workflow", "printer"]) == []
    assert find_queue_hazards(plain, ["workflow", "printer"]) == [
        "task_queues declares workflow without x-max-priority: priorities are not kept apart"
    ]
