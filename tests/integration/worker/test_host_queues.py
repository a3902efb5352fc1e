"""The engine's queues and the app's own, side by side on one Redis: each by its own rules."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from queue import Empty
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import pools

from workflow_engine.settings import Settings
from workflow_engine.store.records import Hint
from workflow_engine.worker.app import install
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher
from workflow_engine.worker.wire.serving_transports import serve_queues

HINT = Hint("01890000-0000-7000-8000-000000000000", 1, "run", "extract", "workflow", 5)
PREFIXES = [{}, {"global_keyprefix": "shop:"}]


def build_engine() -> Any:
    raise AssertionError("no engine is needed here")


def make_app(url: str, *, with_engine: bool, **transport_options: Any) -> Any:
    app = Celery("shop", broker=url, set_as_current=False)
    app.conf.broker_transport_options = transport_options
    app.conf.task_queue_max_priority = 10
    if with_engine:
        install(app, build_engine, settings=Settings.load())

    @app.task(name="shop.note", shared=False)
    def note(number: int) -> None:
        """Do nothing."""

    return app


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


def take_everything(client: Any) -> dict[bytes, Any]:
    """Return what Redis holds, by key, and forget it."""
    kinds = {key: client.type(key) for key in client.keys("*")}
    held = {
        key: client.lrange(key, 0, -1) if kind == b"list" else sorted(client.smembers(key))
        for key, kind in kinds.items()
    }
    client.flushdb()
    return held


@pytest.mark.parametrize("options", [{}, {"priority_steps": [0, 5]}, {"sep": ":", "global_keyprefix": "shop:"}])
def test_messages_of_the_app_are_the_same_bytes_under_the_same_keys(
    redis_url: str, client: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    published = []
    monkeypatch.setattr("kombu.transport.virtual.base.uuid", lambda: "the tag")
    for with_engine in (False, True):
        app = make_app(redis_url, with_engine=with_engine, **options)
        for priority in (None, *range(10)):
            identity = f"note-{priority}"
            app.tasks["shop.note"].apply_async((1,), priority=priority, task_id=identity, reply_to="nobody")
        pools.reset()  # apps with one broker URL share connections
        published.append(take_everything(client))

    assert published[0] == published[1]
    assert sum(len(held) for key, held in published[0].items() if b"_kombu" not in key) == 11


class Serving:
    """The channel that a worker of the app consumes by."""

    def __init__(self, app: Any, *queues: str) -> None:
        self.got: list[Any] = []
        self.connection: Any = serve_queues(app.connection_for_read(), ["workflow", "workflow.control"])
        self.channel: Any = self.connection.channel()
        for queue in queues:
            self.channel.queue_declare(queue)
            self.channel.basic_consume(queue, no_ack=True, callback=self.note, consumer_tag=queue)

    def note(self, message: Any) -> None:
        self.got.append(message.headers.get("id"))

    def drain(self) -> list[Any]:
        """Return the ids of everything that can be consumed, in order."""
        with suppress(TimeoutError, Empty):
            while True:
                self.connection.drain_events(timeout=0.3)
        return self.got


@pytest.fixture
def serve(redis_url: str) -> Iterator[Any]:
    made: list[Serving] = []

    def make(*queues: str, **options: Any) -> Serving:
        made.append(Serving(make_app(redis_url, with_engine=True, **options), *queues))
        return made[-1]

    yield make
    for serving in made:
        serving.connection.close()


@pytest.mark.parametrize("options", PREFIXES)
def test_a_worker_consumes_every_priority_of_both_kinds_of_queue(
    redis_url: str, serve: Any, options: dict[str, Any]
) -> None:
    app = make_app(redis_url, with_engine=True, **options)
    dispatcher = CeleryDispatcher(app, Settings.load())
    dispatcher.dispatch([replace(HINT, dispatch_number=priority, priority=priority) for priority in range(1, 11)])
    dispatcher.close()
    for priority in range(10):
        app.tasks["shop.note"].apply_async((1,), priority=priority, task_id=f"note-{priority}")

    got = serve("celery", "workflow", **options).drain()

    hints = [int(identity.rpartition("/")[2].split("-")[0]) for identity in got if identity.startswith("run/")]
    assert hints == list(range(10, 0, -1))
    assert {identity for identity in got if identity.startswith("note")} == {
        f"note-{priority}" for priority in range(10)
    }


def test_what_an_earlier_release_hid_in_lists_of_all_ten_steps_is_consumed_as_well(redis_url: str, serve: Any) -> None:
    earlier = make_app(redis_url, with_engine=False, priority_steps=list(range(10)))
    for priority in range(10):
        earlier.tasks["shop.note"].apply_async((1,), priority=priority, task_id=f"note-{priority}")

    assert serve("celery", "workflow").drain() == [f"note-{priority}" for priority in range(10)]


@pytest.mark.parametrize(("queue", "step"), [("workflow", 5), ("celery", 3)])
def test_what_is_put_back_goes_to_the_list_that_it_came_from(serve: Any, client: Any, queue: str, step: int) -> None:
    serving = serve()
    message = {
        "body": "",
        "headers": {},
        "properties": {"priority": 5, "delivery_info": {"exchange": "", "routing_key": queue}, "delivery_tag": "t"},
    }

    with client.pipeline() as pipe:
        serving.channel._do_restore_message(message, "", queue, pipe)
        pipe.execute()

    assert client.keys(f"{queue}*") == [f"{queue}\x06\x16{step}".encode()]


def test_a_queue_is_measured_and_purged_by_its_own_steps(redis_url: str, serve: Any) -> None:
    serving = serve()
    dispatcher = CeleryDispatcher(make_app(redis_url, with_engine=True), Settings.load())
    dispatcher.dispatch([replace(HINT, priority=priority) for priority in range(1, 11)])
    dispatcher.close()
    for priority in range(10):
        serving.channel._put("celery", {"properties": {"priority": priority}})

    assert [serving.channel._size(queue) for queue in ("workflow", "celery")] == [10, 10]
    assert [serving.channel._purge(queue) for queue in ("workflow", "celery")] == [10, 10]
    assert [serving.channel._size(queue) for queue in ("workflow", "celery")] == [0, 0]


def test_a_message_that_a_worker_publishes_by_this_channel_lands_where_a_worker_without_the_engine_looks(
    serve: Any, client: Any
) -> None:
    for priority in range(10):
        serve().channel._put("celery", {"properties": {"priority": priority}})

    assert sorted(client.keys("celery*")) == [b"celery", *(f"celery\x06\x16{step}".encode() for step in (3, 6, 9))]


def test_a_malformed_message_is_dropped_from_the_engine_s_queues_only(
    serve: Any, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    serving = serve("celery", "workflow")
    client.lpush("workflow", "not JSON", json.dumps({"body": ""}))

    assert serving.drain() == []
    assert caplog.text.count("dropped a malformed message") == 2

    client.lpush("celery", "not JSON")
    with pytest.raises(json.JSONDecodeError):
        serving.drain()
