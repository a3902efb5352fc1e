"""What a worker outlives that ends a worker of Celery alone: see ``redis_refusals`` for Redis that answers with an error."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from workflow_engine.worker.wire.redis_refusals import expect_refusals

if TYPE_CHECKING:
    from collections.abc import Callable


def outlive_outages(consumer: Any) -> None:
    """Widen what counts as a lost connection to a consumer of the engine's queues that has not connected yet.

    kombu gives a connection that is lost while Celery greets its neighbours, or declares its queues, another name.
    """
    expect_refusals()
    consumer.connection_errors = (*consumer.connection_errors, OperationalError)
    consumer.ensure_connected = partial(_ensure_connected, consumer.ensure_connected)


def _ensure_connected(ensure_connected: Callable[[Any], Any], connection: Any) -> Any:
    """Connect as Celery does; that it gave up after ``broker_connection_max_retries`` ends the worker as ever."""
    try:
        return ensure_connected(connection)
    except OperationalError as error:
        raise RuntimeError(f"gave up connecting to the broker: {error}") from error
