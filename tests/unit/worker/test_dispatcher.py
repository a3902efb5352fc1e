from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from workflow_engine.settings import Settings
from workflow_engine.store.records import Hint
from workflow_engine.worker.app import create_app
from workflow_engine.worker.dispatcher import PAUSE_SECONDS, CeleryDispatcher

HINT = Hint("01890000-0000-7000-8000-000000000000", 1, "run", "extract", "dispatcher-tests", 5)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def unreachable(closed_port: int, clock: Clock) -> Iterator[CeleryDispatcher]:
    settings = Settings.load(broker_url=f"redis://127.0.0.1:{closed_port}/0")
    dispatcher = CeleryDispatcher(create_app(settings), settings, monotonic=clock)
    yield dispatcher
    dispatcher.close()


def make_memory_app() -> Celery:
    return create_app(Settings.load(broker_url="memory://"))


@pytest.fixture
def in_memory(clock: Clock) -> Iterator[CeleryDispatcher]:
    dispatcher = CeleryDispatcher(make_memory_app(), Settings.load(broker_url="memory://"), monotonic=clock)
    yield dispatcher
    dispatcher.close()


def test_a_hint_waits_in_the_list_of_its_queue_and_priority(in_memory: CeleryDispatcher) -> None:
    in_memory.dispatch([HINT])

    assert in_memory.empty_lists([("dispatcher-tests", 5), ("dispatcher-tests", 6), ("others", 5)]) == {
        ("dispatcher-tests", 6),
        ("others", 5),
    }
    assert in_memory.depths(["dispatcher-tests"]) == {"dispatcher-tests": 1}
    with in_memory._link.channel() as channel:
        channel.queue_purge("dispatcher-tests")


def test_a_broker_that_is_down_is_nobodys_problem(unreachable: CeleryDispatcher) -> None:
    unreachable.dispatch([HINT])

    assert unreachable.empty_lists([("workflow", 5)]) is None
    assert unreachable.depths(["workflow"]) is None


def test_an_outage_is_told_once(unreachable: CeleryDispatcher, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        unreachable.dispatch([HINT])
        clock.now += PAUSE_SECONDS

    assert [record.levelno for record in caplog.records if record.name == "workflow_engine.dispatcher"] == [
        logging.WARNING
    ]


def test_during_an_outage_hints_are_dropped_without_trying(
    unreachable: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable.dispatch([HINT])
    tries: list[Any] = []
    monkeypatch.setattr(unreachable._link, "publish", tries.append)

    unreachable.dispatch([HINT])

    assert tries == []


def test_the_end_of_an_outage_is_noticed_and_told(
    unreachable: CeleryDispatcher, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "workflow_engine.dispatcher")
    unreachable.dispatch([HINT])
    monkeypatch.setattr(unreachable._link, "publish", lambda _: None)
    clock.now += PAUSE_SECONDS

    unreachable.dispatch([HINT])

    assert caplog.messages[-1] == "The broker can be reached again"


def test_a_broker_that_accepts_and_never_answers_costs_seconds_not_minutes() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        settings = Settings.load(broker_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        dispatcher = CeleryDispatcher(create_app(settings), settings)
        started = time.monotonic()

        dispatcher.dispatch([HINT])

        assert time.monotonic() - started < 8
        dispatcher.close()


def test_a_hint_for_later_is_sent_later(in_memory: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = threading.Event()
    monkeypatch.setattr(in_memory._link, "publish", lambda _: sent.set())

    in_memory.dispatch_later(HINT, timedelta(milliseconds=1))

    assert sent.wait(10)
