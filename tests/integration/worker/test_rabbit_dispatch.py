from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from workflow_engine.errors import ConfigurationError
from workflow_engine.settings import Settings
from workflow_engine.store.records import Hint
from workflow_engine.worker.app import create_app, install
from workflow_engine.worker.names import SWEEP
from workflow_engine.worker.process.worker_step import add_queues, select_queues
from workflow_engine.worker.wire import broker_link
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher
from workflow_engine.worker.wire.queues import check_queues, find_queue

HINT = Hint("01890000-0000-7000-8000-000000000000", 1, "run", "extract", "workflow", 5)


@pytest.fixture
def channel(rabbit_url: str) -> Iterator[Any]:
    with Connection(rabbit_url) as connection:
        yield connection.channel()


@pytest.fixture
def app(rabbit_url: str) -> Celery:
    settings = Settings.load(broker_url=rabbit_url)
    app = create_app(settings)
    install(app, lambda: pytest.fail("no engine is needed"), settings=settings)
    return app


@pytest.fixture
def dispatcher(app: Celery) -> Iterator[CeleryDispatcher]:
    made = CeleryDispatcher(app, Settings.load())
    yield made
    made.close()


def wait_for_depths(dispatcher: CeleryDispatcher, **expected: int) -> None:
    """RabbitMQ takes what was published before it answers, but may count it a little later."""
    pause = threading.Event()
    for _ in range(600):
        if dispatcher.depths(list(expected)) == expected:
            return
        pause.wait(0.05)
    assert dispatcher.depths(list(expected)) == expected


def take_all(channel: Any, queue: str = "workflow") -> list[Any]:
    return list(iter(lambda: channel.basic_get(queue, no_ack=True), None))


def numbers(messages: list[Any]) -> list[int]:
    return [int(message.headers["id"].rpartition("/")[2].partition("-")[0]) for message in messages]


def test_more_important_hints_come_first_and_equals_keep_their_order(
    dispatcher: CeleryDispatcher, channel: Any
) -> None:
    dispatcher.dispatch([replace(HINT, dispatch_number=n + 1, priority=p) for n, p in enumerate((5, 0, 10, 1, 9, 5))])
    wait_for_depths(dispatcher, workflow=6)

    assert numbers(take_all(channel)) == [3, 5, 1, 6, 4, 2]


def test_hints_wait_for_the_first_worker_though_nobody_had_declared_their_queue(
    dispatcher: CeleryDispatcher, channel: Any
) -> None:
    dispatcher.dispatch([HINT])
    dispatcher.dispatch([replace(HINT, queue="printer")])

    wait_for_depths(dispatcher, workflow=1, printer=1, elsewhere=0)


def test_a_queue_that_is_not_there_is_empty_and_another_priority_keeps_a_list_from_being_known_as_empty(
    dispatcher: CeleryDispatcher,
) -> None:
    dispatcher.dispatch([HINT])
    wait_for_depths(dispatcher, workflow=1)

    assert dispatcher.empty_lists([("workflow", 5), ("workflow", 9), ("elsewhere", 5)]) == {("elsewhere", 5)}


def test_a_queue_that_was_deleted_is_declared_again(
    dispatcher: CeleryDispatcher, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_link, "FRESH_SECONDS", 0)
    dispatcher.dispatch([HINT])
    channel.queue_delete("workflow")

    dispatcher.dispatch([HINT])

    wait_for_depths(dispatcher, workflow=1)


def test_a_connection_that_was_closed_meanwhile_costs_no_hint_and_is_no_news(
    dispatcher: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker_link, "FRESH_SECONDS", 0)
    dispatcher.dispatch([HINT])
    connection: Any = dispatcher._link._connection
    connection.connection.sock.shutdown(socket.SHUT_RDWR)

    dispatcher.dispatch([HINT])

    wait_for_depths(dispatcher, workflow=2)
    assert caplog.text == ""


def test_a_queue_of_other_arguments_is_named_with_the_remedy_and_gets_its_hints(
    dispatcher: CeleryDispatcher, channel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    channel.queue_declare("workflow", durable=True, auto_delete=False)

    dispatcher.dispatch([HINT])

    assert "inequivalent arg 'x-max-priority' for queue 'workflow'" in caplog.text
    assert "rabbitmqctl delete_queue" in caplog.text
    wait_for_depths(dispatcher, workflow=1)


def test_a_worker_does_not_start_on_a_queue_of_other_arguments(app: Celery, channel: Any) -> None:
    channel.queue_declare("workflow", durable=True, auto_delete=False)
    select_queues(app, ["workflow"])

    with pytest.raises(ConfigurationError, match=r"for queue 'workflow'.*Delete the queue"):
        check_queues(app, ["workflow"])


def test_workers_and_publishers_agree_whoever_comes_first(
    app: Celery, dispatcher: CeleryDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    select_queues(app, ["workflow"])
    dispatcher.dispatch([HINT])
    check_queues(app, ["workflow"])
    dispatcher.dispatch([replace(HINT, queue="workflow.control")])

    check_queues(app, ["workflow", "workflow.control"])

    assert caplog.text == ""


def test_a_tick_of_beat_reaches_the_queue_that_a_worker_declares(
    app: Celery, dispatcher: CeleryDispatcher, channel: Any
) -> None:
    select_queues(app, ["workflow.control"])
    check_queues(app, ["workflow.control"])

    app.tasks[SWEEP].apply_async()

    wait_for_depths(dispatcher, **{"workflow.control": 1})
    [tick] = take_all(channel, "workflow.control")
    assert tick.headers["task"] == SWEEP


@pytest.mark.parametrize("create_missing", [True, False])
def test_a_queue_that_a_worker_is_told_to_consume_is_declared_as_ours(app: Celery, *, create_missing: bool) -> None:
    app.conf.task_create_missing_queues = create_missing

    add_queues(SimpleNamespace(app=app), options={"queues": ["workflow"]})
    app.amqp.queues.select(["workflow"])  # what ``-Q workflow`` does

    [queue] = app.amqp.queues.consume_from.values()
    assert queue.queue_arguments["x-max-priority"] == 10


def test_what_the_app_says_about_a_queue_of_ours_holds_for_everybody(
    app: Celery, dispatcher: CeleryDispatcher, channel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app.conf.task_queues = [Queue("workflow", Exchange("workflow"), "workflow", queue_arguments={"x-max-priority": 3})]
    channel.queue_declare("workflow", durable=True, auto_delete=False, arguments={"x-max-priority": 3})

    dispatcher.dispatch([HINT])
    select_queues(app, ["workflow"])
    check_queues(app, ["workflow"])

    assert find_queue(app, "workflow").queue_arguments == {"x-max-priority": 3}
    assert caplog.text == ""


def test_a_queue_that_this_user_may_not_declare_is_left_to_others_and_stops_no_hint(
    dispatcher: CeleryDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    reserved = replace(HINT, queue="amq.reserved")  # whoever asks, RabbitMQ refuses to declare such a name

    dispatcher.dispatch([reserved, HINT])

    wait_for_depths(dispatcher, workflow=1)
    assert caplog.text == ""
