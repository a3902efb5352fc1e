"""The brokers that can carry hints: Redis, RabbitMQ, and memory within one process. Everything else is refused."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kombu.transport import get_transport_cls, memory, pyamqp, redis
from kombu.utils.url import maybe_sanitize_url, parse_url

from workflow_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Celery


class Broker(StrEnum):
    """A kind of broker; the value is what kombu calls the driver type."""

    REDIS = "redis"
    RABBITMQ = "amqp"
    MEMORY = "memory"


_TRANSPORTS = (redis.Transport, pyamqp.Transport, memory.Transport)
_SUPPORTED = "Redis (redis://, rediss://, sentinel://), RabbitMQ (amqp://, amqps://) and, within one process, memory://"


def broker_of(channel: Any) -> Broker:
    """Return the kind of broker that a channel leads to."""
    if hasattr(channel, "conn_or_acquire"):
        return Broker.REDIS
    return Broker.RABBITMQ if isinstance(channel, pyamqp.Channel) else Broker.MEMORY


def check_broker(app: Celery) -> None:
    """Refuse a broker that cannot carry hints; reads the configuration of the app, and connects to nothing.

    Raises:
        ConfigurationError: The message names the brokers that can.
    """
    for connection in (app.connection_for_read(), app.connection_for_write()):
        _check_transport(connection.transport_cls, connection.as_uri())
        for url in connection.alt:  # the other brokers of a list; those without a scheme are of the first one's kind
            if "://" in url:
                _check_transport(parse_url(url)["transport"], url)


def check_known_broker(app: Celery) -> None:
    """Refuse a broker as ``check_broker`` does, if the app names one already; reads no configuration.

    Raises:
        ConfigurationError: The message names the brokers that can carry hints.
    """
    celery: Any = app
    if celery.configured:
        check_broker(app)
    elif not os.environ.get("CELERY_BROKER_URL"):  # Celery prefers the variable
        url = celery._preconf.get("broker_url")  # noqa: SLF001 - what Celery(broker=…) and app.conf… remember until then
        for part in str(url or "").split(";"):
            if "://" in part:
                _check_transport(parse_url(part)["transport"], part)


def _check_transport(transport: Any, url: str) -> None:
    found: Any = transport
    if isinstance(transport, str):
        try:
            found = get_transport_cls(transport)
        except (ImportError, KeyError, AttributeError):  # its driver is not installed, or nobody knows the name
            found = None
    if not isinstance(found, type) or not issubclass(found, _TRANSPORTS):
        raise ConfigurationError(
            f"The broker {maybe_sanitize_url(url)} cannot carry the engine's messages; supported are {_SUPPORTED}"
        )
