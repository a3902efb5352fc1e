"""A worker whose connection to Redis is lost goes on, whatever kombu finds when it cleans up."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection
from kombu.transport import memory, redis

from workflow_engine.worker.wire.serving_transports import GuardedQoS, serve_queues

if TYPE_CHECKING:
    from collections.abc import Iterator


class LostChannel:
    """A channel whose connection is gone."""

    do_restore = True
    connection: Any = None
    _restore = staticmethod(lambda _: None)

    @contextmanager
    def conn_or_acquire(self, _client: object = None) -> Iterator[Any]:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")
        yield


def test_messages_that_cannot_be_put_back_do_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    qos: Any = GuardedQoS(LostChannel(), prefetch_count=1)
    qos._delivered["tag"] = object()

    qos.restore_unacked_once()
    qos.restore_unacked_once()

    assert "1 unacknowledged messages stay where they are" in caplog.text


@pytest.mark.parametrize("connection", [None, SimpleNamespace(client=None)])
def test_an_acknowledgement_that_comes_after_its_connection_is_gone_does_not_end_the_worker(connection: Any) -> None:
    channel = LostChannel()
    channel.connection = connection
    qos: Any = GuardedQoS(channel, prefetch_count=1)
    qos._delivered["tag"] = object()

    qos.ack("tag")
    qos.reject("tag", requeue=True)
    qos._delivered.clear()


def test_a_message_of_a_live_connection_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = LostChannel()
    channel.connection = SimpleNamespace(client=object())
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(redis.QoS, "ack", lambda _, *given: told.append(("ack", *given)))
    monkeypatch.setattr(redis.QoS, "reject", lambda _, *given: told.append(("reject", *given)))
    qos: Any = GuardedQoS(channel, prefetch_count=1)

    qos.ack("one")
    qos.reject("two", requeue=True)

    assert told == [("ack", "one"), ("reject", "two", True)]


@pytest.mark.parametrize(
    ("url", "transport", "channel"),
    [
        ("redis://127.0.0.1:1/0", redis.Transport, redis.Channel),
        ("sentinel://127.0.0.1:1/0", redis.SentinelTransport, redis.SentinelChannel),
    ],
)
def test_channels_of_the_connection_that_is_consumed_by_keep_account_that_way(
    url: str, transport: type[Any], channel: type[Any]
) -> None:
    serving: Any = serve_queues(Connection(url), ["workflow"]).get_transport_cls()

    assert issubclass(serving, transport)
    assert issubclass(serving.Channel, channel)
    assert serving.Channel.QoS is GuardedQoS


def test_other_transports_are_used_as_they_are() -> None:
    assert serve_queues(Connection("memory://"), ["workflow"]).get_transport_cls() is memory.Transport
