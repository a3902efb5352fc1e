from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from workflow_engine.settings import Settings
from workflow_engine.store.records import Hint
from workflow_engine.worker.app import create_app
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher

HINT = Hint("01890000-0000-7000-8000-000000000000", 1, "run", "extract", "workflow", 5)


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as opened:
        yield opened


@pytest.fixture
def dispatcher(redis_url: str) -> Iterator[CeleryDispatcher]:
    settings = Settings.load(broker_url=redis_url)
    made = CeleryDispatcher(create_app(settings), settings)
    yield made
    made.close()


def test_each_priority_has_a_list_and_one_and_zero_share_the_last(dispatcher: CeleryDispatcher, client: Any) -> None:
    dispatcher.dispatch([replace(HINT, priority=priority) for priority in range(11)])

    assert client.llen("workflow") == 1
    assert [client.llen(f"workflow\x06\x16{step}") for step in range(1, 10)] == [1, 1, 1, 1, 1, 1, 1, 1, 2]


def test_a_list_is_first_in_first_out(dispatcher: CeleryDispatcher, client: Any) -> None:
    dispatcher.dispatch([replace(HINT, dispatch_number=number) for number in (1, 2)])
    dispatcher.dispatch([replace(HINT, dispatch_number=3)])

    entries = [json.loads(client.rpop("workflow\x06\x165")) for _ in range(3)]

    assert [entry["headers"]["id"].rpartition("/")[2] for entry in entries] == ["1-000000", "2-000000", "3-000000"]


def test_a_message_is_small(dispatcher: CeleryDispatcher, client: Any) -> None:
    dispatcher.dispatch([HINT])

    assert len(client.rpop("workflow\x06\x165")) < 1200


def test_empty_lists_are_told_apart_from_those_that_hold_something(dispatcher: CeleryDispatcher) -> None:
    dispatcher.dispatch([HINT, replace(HINT, queue="printer", priority=10)])

    empty = dispatcher.empty_lists([("workflow", 5), ("workflow", 10), ("printer", 5), ("printer", 10)])

    assert empty == {("workflow", 10), ("printer", 5)}


def test_depths_count_all_priorities_of_a_queue(dispatcher: CeleryDispatcher) -> None:
    dispatcher.dispatch([replace(HINT, priority=priority) for priority in (0, 5, 10)])

    assert dispatcher.depths(["workflow", "printer"]) == {"workflow": 3, "printer": 0}


def test_after_an_outage_hints_are_sent_again(
    private_redis_server: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "workflow_engine.dispatcher")
    returned = threading.Event()
    monkeypatch.setattr("workflow_engine.worker.wire.dispatcher._tell_return", returned.set)
    settings = Settings.load(broker_url=private_redis_server.url())
    dispatcher = CeleryDispatcher(create_app(settings), settings)
    dispatcher.dispatch([HINT])
    private_redis_server.kill()
    dispatcher.dispatch([HINT])
    private_redis_server.start()
    assert returned.wait(60)

    dispatcher.dispatch([HINT])

    assert dispatcher.depths(["workflow"]) == {"workflow": 1}
    assert "The broker cannot be used" in caplog.text
    dispatcher.close()


def test_a_connection_that_was_closed_meanwhile_costs_no_hint(
    dispatcher: CeleryDispatcher, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher.dispatch([HINT])
    client.client_kill_filter(_type="normal", skipme=True)

    dispatcher.dispatch([HINT])

    assert dispatcher.depths(["workflow"]) == {"workflow": 2}
    assert caplog.text == ""
