"""The connection that Celery's consumer reads by: one that serves the engine's queues, and is made anew when it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from workflow_engine.worker.wire.redis_refusals import mark_consuming_process
from workflow_engine.worker.wire.serving_transports import serve_queues

if TYPE_CHECKING:
    from collections.abc import Collection


def serve_by(consumer: Any, queues: Collection[str]) -> None:
    """Make every connection that a consumer, which has none yet, opens for reading one that serves the queues.

    kombu gives a connection that is lost while Celery greets its neighbours, or declares its queues, the name of an
    OperationalError, which ends a worker of Celery alone; here it is a lost connection like any other.
    """
    connect = consumer.ensure_connected

    def ensure_connected(connection: Any) -> Any:
        try:
            return connect(connection)
        except OperationalError as error:  # Celery gave up after broker_connection_max_retries: that ends a worker
            raise RuntimeError(f"gave up connecting to the broker: {error}") from error

    def connection_for_read(heartbeat: Any = None) -> Any:
        return ensure_connected(serve_queues(consumer.app.connection_for_read(heartbeat=heartbeat), queues))

    mark_consuming_process()
    consumer.connection_errors = (*consumer.connection_errors, OperationalError)
    consumer.ensure_connected = ensure_connected
    consumer.connection_for_read = connection_for_read
