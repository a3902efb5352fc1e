"""One connection to the broker for publishing and asking: short timeouts, no retries, fit for after-commit work."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

from kombu import Producer
from kombu.exceptions import OperationalError

from workflow_engine.worker.priorities import PRIORITY_STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery import Celery
    from kombu import Connection

#: Seconds that connecting to, or an answer of, the broker may take before the attempt is given up.
TIMEOUT_SECONDS: Final = 1.0

#: Over whatever the app configured, on this connection alone: only messages of the engine's queues go over it, and a
#: broker that does not answer must not hold up a completion.
LINK_OPTIONS: Final[dict[str, Any]] = {
    **PRIORITY_STEPS,
    "socket_timeout": TIMEOUT_SECONDS,
    "socket_connect_timeout": TIMEOUT_SECONDS,
    "retry_on_timeout": False,
}


class BrokerLink:
    """A connection of this process to the broker of an app; opened at first use, dropped at the first error.

    One thread at a time uses it. After a fork the child opens its own.
    """

    _pid: int
    #: By the monotonic clock.
    _failed_at: float

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._reset()

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Lend the kombu channel; any error of the block closes the connection and is raised.

        Who waited for its turn while another failed fails with it: else all that wait would find out one by one.

        Raises:
            OperationalError: Another thread failed meanwhile.
        """
        if self._pid != os.getpid():
            self._reset()
        asked_at = time.monotonic()
        with self._lock:
            if self._failed_at > asked_at:
                raise OperationalError("the broker failed while this waited for its turn")
            try:
                yield self._open()
            except BaseException:
                self._failed_at = time.monotonic()
                self._drop()
                raise

    def publish(self, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Publish bodies with their options, in one round trip where the transport can do that."""
        with self.channel() as channel:
            producer = Producer(channel, auto_declare=False)
            batch = getattr(producer, "batch", None) if len(messages) > 1 else None  # new in kombu 5.7
            with batch() if batch else nullcontext():
                for text, options in messages:
                    producer.publish(text, **options)

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._pid == os.getpid():
            with self._lock:
                self._drop()

    def _reset(self) -> None:
        # A connection inherited through a fork belongs to the parent: forgotten, not closed.
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._channel: Any = None
        self._failed_at = float("-inf")
        self._pid = os.getpid()  # last: other threads go on as soon as they see it

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._app.connection_for_write(
                connect_timeout=TIMEOUT_SECONDS, transport_options=LINK_OPTIONS
            )
            self._connection.ensure_connection(max_retries=1, interval_start=0)
            self._channel = self._connection.channel()
        return self._channel

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # it is broken already, or the broker is gone
                connection.release()
