"""The brokers that can carry hints: Redis, RabbitMQ, and memory within one process. Everything else is refused."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kombu.transport import get_transport_cls, memory, pyamqp, redis
from kombu.utils.url import maybe_sanitize_url

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
    conf: Any = app.conf
    _check_urls(conf.broker_read_url)
    _check_urls(conf.broker_write_url)
    if not conf.broker_url and conf.broker_transport:
        _check_transport(conf.broker_transport, conf.broker_transport)


def check_known_broker(app: Celery) -> None:
    """Refuse a broker as ``check_broker`` does, if the app names one already; reads no configuration.

    Raises:
        ConfigurationError: The message names the brokers that can carry hints.
    """
    celery: Any = app
    if celery.configured:
        check_broker(app)
    elif not os.environ.get("CELERY_BROKER_URL"):  # Celery prefers the variable
        _check_urls(celery._preconf.get("broker_url"))  # noqa: SLF001 - what Celery(broker=…) remembers until then


def _check_urls(urls: Any) -> None:
    for url in urls.split(";") if isinstance(urls, str) else urls or ():
        scheme, found, _ = url.partition("://")
        if found:  # else it is one of a list, and of the kind of the first
            _check_transport(scheme.partition("+")[0], url)


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
