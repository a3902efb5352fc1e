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
from workflow_engine.worker.wire.broker_watch import BrokerWatch
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher

HINT = Hint("01890000-0000-7000-8000-000000000000", 1, "run", "extract", "dispatcher-tests", 5)


@pytest.fixture
def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def dispatch_to(url: str) -> CeleryDispatcher:
    settings = Settings.load(broker_url=url)
    return CeleryDispatcher(create_app(settings), settings)


@pytest.fixture
def unreachable(closed_port: int) -> Iterator[CeleryDispatcher]:
    dispatcher = dispatch_to(f"redis://127.0.0.1:{closed_port}/0")
    yield dispatcher
    dispatcher.close()


@pytest.fixture(params=["redis", "amqp"])
def silent(request: pytest.FixtureRequest) -> Iterator[CeleryDispatcher]:
    """A dispatcher whose broker accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        dispatcher = dispatch_to(f"{request.param}://guest:guest@127.0.0.1:{server.getsockname()[1]}/0")
        yield dispatcher
        dispatcher.close()


def make_memory_app() -> Celery:
    return create_app(Settings.load(broker_url="memory://"))


@pytest.fixture
def in_memory() -> Iterator[CeleryDispatcher]:
    dispatcher = CeleryDispatcher(make_memory_app(), Settings.load(broker_url="memory://"))
    yield dispatcher
    dispatcher.close()


def test_a_hint_waits_in_the_list_of_its_queue_and_priority(in_memory: CeleryDispatcher) -> None:
    in_memory.dispatch([HINT])

    assert in_memory.empty_lists([("dispatcher-tests", 5), ("dispatcher-tests", 6), ("others", 5)]) == {
        ("dispatcher-tests", 6),
        ("others", 5),
    }
    assert in_memory.depths(["dispatcher-tests"]) == {"dispatcher-tests": 1}
    in_memory._link.use(lambda channel: channel.queue_purge("dispatcher-tests"))


def test_a_broker_that_is_down_is_nobodys_problem(unreachable: CeleryDispatcher) -> None:
    unreachable.dispatch([HINT])
    unreachable.terminate([HINT])

    assert unreachable.empty_lists([("workflow", 5)]) is None
    assert unreachable.depths(["workflow"]) is None


def test_an_outage_is_told_once(unreachable: CeleryDispatcher, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        unreachable.dispatch([HINT])

    assert [record.levelno for record in caplog.records if record.name == "workflow_engine.dispatcher"] == [
        logging.WARNING
    ]


def test_a_broker_that_accepts_and_never_answers_costs_the_time_limit_once(
    silent: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent.dispatch([HINT])
    monkeypatch.setattr(silent._link, "use", lambda _: pytest.fail("it was waited for again"))
    began_at = time.thread_time()

    for _ in range(100):
        silent.dispatch([HINT])
        silent.terminate([HINT])
        assert silent.empty_lists([("workflow", 5)]) is None

    assert time.thread_time() - began_at < 1  # of the processor: nothing is built in vain


def test_no_thread_watches_a_broker_that_is_there(in_memory: CeleryDispatcher) -> None:
    in_memory.dispatch([HINT])

    assert in_memory._watch._thread is None
    in_memory._link.use(lambda channel: channel.queue_purge("dispatcher-tests"))


def test_a_dispatcher_that_is_closed_watches_no_longer(unreachable: CeleryDispatcher) -> None:
    unreachable.dispatch([HINT])
    watching = unreachable._watch._thread
    assert watching is not None

    unreachable.close()

    watching.join(10)
    assert not watching.is_alive()


def test_a_broker_that_cannot_carry_hints_is_told_and_nothing_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = dispatch_to("filesystem://")

    dispatcher.dispatch([HINT])

    assert "supported are Redis" in caplog.text
    dispatcher.close()


class Broker:
    """Answers as the test says, and notes how long it was left alone before each look."""

    def __init__(self) -> None:
        self.is_back = False
        self.looks = 0
        self.returned = threading.Event()

    def check(self) -> None:
        self.looks += 1
        if not self.is_back:
            raise ConnectionError("away")


class Pauses:
    """In place of the event that the watch waits on: notes each pause, and lets it pass when the test says so."""

    def __init__(self, broker: Broker, looks: int) -> None:
        self.lengths: list[float] = []
        self._broker = broker
        self._looks = looks

    def wait(self, seconds: float) -> bool:
        self.lengths.append(seconds)
        self._broker.is_back = len(self.lengths) == self._looks
        return False

    def is_set(self) -> bool:
        return False


def run_watch(watch: BrokerWatch, broker: Broker, looks: int) -> list[float]:
    """Let the broker be away until it was looked at so often; return the pauses before each look."""
    pauses: Any = Pauses(broker, looks)
    watch._stopped = pauses
    broker.returned.clear()
    assert watch.note_failure()
    assert broker.returned.wait(10)
    return list(pauses.lengths)


def test_pauses_between_two_looks_grow_to_half_a_minute() -> None:
    broker = Broker()
    watch = BrokerWatch(broker.check, broker.returned.set)

    pauses = run_watch(watch, broker, looks=9)

    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert not watch.is_away


def test_a_broker_that_fails_again_soon_is_looked_at_as_seldom_as_before() -> None:
    now = 0.0
    broker = Broker()
    watch = BrokerWatch(broker.check, broker.returned.set, monotonic=lambda: now)
    run_watch(watch, broker, looks=3)

    now += 5
    soon = run_watch(watch, broker, looks=1)
    now += 500
    later = run_watch(watch, broker, looks=1)

    assert (soon, later) == ([4], [0.5])


def test_a_failure_while_the_broker_is_looked_for_starts_no_second_thread() -> None:
    broker = Broker()
    watch = BrokerWatch(broker.check, broker.returned.set)

    assert watch.note_failure()
    thread = watch._thread
    assert not watch.note_failure()
    assert watch._thread is thread
    watch.stop()


def test_a_forked_process_knows_of_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = BrokerWatch(Broker().check, threading.Event().set)
    stopped = watch._stopped
    watch.note_failure()

    monkeypatch.setattr("os.getpid", lambda: -1)

    assert not watch.is_away
    stopped.set()


def test_a_hint_for_later_is_sent_later(in_memory: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = threading.Event()
    monkeypatch.setattr(in_memory._link, "publish", lambda _: sent.set())

    in_memory.dispatch_later(HINT, timedelta(milliseconds=1))

    assert sent.wait(10)


def test_a_team_s_own_memory_broker_is_asked_by_queue_and_is_not_taken_for_one_that_is_away() -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    dispatcher = CeleryDispatcher(app, Settings.load())
    with app.connection_for_write() as connection:
        connection.SimpleQueue("memory-of-a-team").put("a message")

    assert dispatcher.empty_lists([("memory-of-a-team", 5), ("nowhere", 5)]) == {("nowhere", 5)}
    assert dispatcher.depths(["memory-of-a-team", "nowhere"]) == {"memory-of-a-team": 1, "nowhere": 0}
    assert not dispatcher._watch.is_away
    dispatcher.close()
