"""One connection to the broker for publishing and asking: short timeouts, no retries, fit for after-commit work."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kombu import Producer
from kombu.exceptions import OperationalError

from workflow_engine.worker.wire import messages
from workflow_engine.worker.wire.broker_priorities import PRIORITY_STEPS
from workflow_engine.worker.wire.process_state import ProcessState
from workflow_engine.worker.wire.queues import declare
from workflow_engine.worker.wire.redis_refusals import check_writes
from workflow_engine.worker.wire.supported_brokers import Broker, broker_of, check_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery import Celery
    from kombu import Connection

    from workflow_engine.store.records import Hint

Answer = TypeVar("Answer")

#: Seconds that connecting to, or an answer of, the broker may take before the attempt is given up.
TIMEOUT_SECONDS: Final = 1.0

#: These override the app's transport options on this connection alone: only messages of the engine's queues go over it,
#: and a broker that does not answer must not hold up a completion. Each transport reads those that it knows.
LINK_OPTIONS: Final[dict[str, Any]] = {
    **PRIORITY_STEPS,
    "socket_timeout": TIMEOUT_SECONDS,
    "socket_connect_timeout": TIMEOUT_SECONDS,
    "retry_on_timeout": False,
    "read_timeout": TIMEOUT_SECONDS,
    "write_timeout": TIMEOUT_SECONDS,
}

#: RabbitMQ does not answer to a publish. A declaration of the queue, which it answers, shows that the queue is there,
#: and the connection, and does so for this long.
FRESH_SECONDS: Final = 1.0


def connect(app: Celery) -> Connection:
    """Open a connection to the broker of the app, by one attempt for each of its URLs.

    Raises:
        ConfigurationError: The broker cannot carry hints.
        OperationalError: It cannot be reached.
    """
    check_broker(app)
    connection = app.connection_for_write(connect_timeout=TIMEOUT_SECONDS, transport_options=LINK_OPTIONS)
    try:
        connection.ensure_connection(
            max_retries=max(0, len(connection.alt) - 1), interval_start=0, interval_step=0, interval_max=0
        )
    except BaseException:
        abandon(connection)
        raise
    return connection


def check_usable(app: Celery) -> None:
    """Raise an error if the broker of the app cannot be used now."""
    connection = connect(app)
    try:
        check_writes(connection.channel())
    finally:
        abandon(connection)


def abandon(connection: Connection) -> None:
    """Close a connection that may be broken, without waiting for a broker that does not answer."""
    with suppress(Exception):
        if connection.transport.driver_type == Broker.RABBITMQ:
            connection.collect()
        else:
            connection.release()


class BrokerLink(ProcessState):
    """A connection of this process to the broker of an app; opened at first use, dropped at the first error.

    One thread at a time uses it. After a fork the child opens its own.
    """

    #: By the monotonic clock.
    _failed_at: float

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._reset()

    def use(self, action: Callable[[Any], Answer]) -> Answer:
        """Call ``action`` with the kombu channel; any error of it closes the connection and is raised.

        An idle connection may have been closed meanwhile: an action that fails on it at once is tried again on a new
        one. Actions that waited for their turn while another one failed fail with it; otherwise each of them would
        wait for a broker that does not answer.

        Raises:
            OperationalError: Another thread failed meanwhile.
            ConfigurationError: The broker cannot carry hints.
        """
        self._notice_fork()
        asked_at = time.monotonic()
        with self._lock:
            if self._failed_at > asked_at:
                raise OperationalError("the broker failed while this waited for its turn")
            try:
                return self._try(action)
            except BaseException:
                self._failed_at = time.monotonic()
                raise

    def publish(self, hints: Sequence[Hint]) -> None:
        """Publish hints, in one round trip where the transport can do that."""
        self.use(lambda channel: self._publish(channel, hints))

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._is_of_this_process():
            with self._lock:
                if self._connection is not None:
                    with suppress(Exception):
                        self._connection.release()
                self._drop()

    def _make_anew(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._channel: Any = None
        #: When each queue of RabbitMQ was declared last.
        self._declared: dict[str, float] = {}
        self._failed_at = float("-inf")

    def _try(self, action: Callable[[Any], Answer]) -> Answer:
        was_open, began_at = self._connection is not None, time.monotonic()
        try:
            return action(self._open())
        except BaseException as error:
            self._drop()
            is_quick = time.monotonic() - began_at < TIMEOUT_SECONDS / 2
            if not (was_open and is_quick and isinstance(error, Exception)):
                raise
        try:
            return action(self._open())
        except BaseException:
            self._drop()
            raise

    def _publish(self, channel: Any, hints: Sequence[Hint]) -> None:
        broker = broker_of(channel)
        if broker is Broker.RABBITMQ:
            self._declare(channel, {hint.queue for hint in hints})
        producer = Producer(channel, auto_declare=False)
        batch = getattr(producer, "batch", None) if len(hints) > 1 else None  # new in kombu 5.7
        with batch() if batch else nullcontext():
            for hint in hints:
                producer.publish(messages.body(hint), **messages.publish_options(hint, broker))

    def _declare(self, channel: Any, queues: set[str]) -> None:
        stale_at = time.monotonic() - FRESH_SECONDS
        for queue in queues:
            if self._declared.get(queue, float("-inf")) < stale_at:
                declare(self._app, channel, queue)
                self._declared[queue] = time.monotonic()

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = connect(self._app)
            self._channel = self._connection.channel()
        return self._channel

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._declared.clear()
        if connection is not None:
            abandon(connection)
