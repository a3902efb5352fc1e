"""The memory:// transport for one process: with priorities, and waking up at once instead of polling."""

from __future__ import annotations

import itertools
import queue
import threading
from typing import TYPE_CHECKING, Any

from kombu import Connection
from kombu.transport import memory

if TYPE_CHECKING:
    from celery import Celery

_order = itertools.count()
_arrived = threading.Condition()
_arrivals = itertools.count(1)
_last_arrival = 0


def wake_consumers() -> None:
    """Let every waiting consumer of this process look around."""
    global _last_arrival  # noqa: PLW0603 - memory:// is one broker for the whole process, and so is its bell
    with _arrived:
        _last_arrival = next(_arrivals)
        _arrived.notify_all()


class MemoryQueue:
    """A queue ordered by priority step, then by arrival; the part of queue.Queue that kombu uses."""

    def __init__(self) -> None:
        self._entries: queue.PriorityQueue[tuple[int, int, Any]] = queue.PriorityQueue()
        self.qsize = self._entries.qsize
        self.empty = self._entries.empty

    def put(self, message: dict[str, Any]) -> None:
        """Add a message."""
        step = message["properties"].get("priority") or 0
        self._entries.put((step, next(_order), message))
        wake_consumers()

    def get(self, *, block: bool = False) -> Any:
        """Return the first message; raise queue.Empty if there is none."""
        return self._entries.get(block=block)[2]

    def count(self, step: int) -> int:
        """Return how many messages of that priority step wait."""
        with self._entries.mutex:
            return sum(1 for entry in self._entries.queue if entry[0] == step)

    @property
    def queue(self) -> list[Any]:
        """The entries, which kombu clears to purge the queue."""
        return self._entries.queue


class MemoryChannel(memory.Channel):
    """A channel whose queues keep priorities."""

    queues: dict[str, Any] = {}  # noqa: RUF012 - shared by all channels: it is the broker

    def _new_queue(self, queue: str, **_: Any) -> None:
        self._queue_for(queue)

    def _queue_for(self, queue: str) -> Any:
        return self.queues.setdefault(queue, MemoryQueue())

    def count(self, queue: str, step: int) -> int:
        """Return how many messages of that priority step wait in the queue."""
        count: int = self._queue_for(queue).count(step)
        return count


class MemoryTransport(memory.Transport):
    """Delivers as soon as something arrives."""

    Channel: type[memory.Channel] = MemoryChannel

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:  # noqa: ARG002 - kombu's
        """Deliver one message; raise TimeoutError when none came within ``timeout``, or when woken up for nothing."""
        while True:
            seen = _last_arrival
            if self._deliver_one(timeout):
                return
            _wait_for_arrival(seen, timeout)
            if self._deliver_one(timeout):
                return
            if timeout is not None:
                raise TimeoutError

    def _deliver_one(self, timeout: float | None) -> bool:
        cycle: Any = self.cycle
        try:
            cycle.get(self._deliver, timeout=timeout)
        except queue.Empty:
            return False
        return True


def _wait_for_arrival(seen: int, timeout: float | None) -> None:
    with _arrived:
        _arrived.wait_for(lambda: _last_arrival != seen, timeout)


class EmbeddedConnection(Connection):
    """A connection whose ``memory://`` has priorities and wakes consumers up."""

    def get_transport_cls(self) -> type[Any]:
        """Return the transport class for the URL."""
        transport = super().get_transport_cls()
        return MemoryTransport if transport is memory.Transport else transport


def use_embedded_connections(app: Celery) -> None:
    """Let all connections of an app that is the engine's own use its ``memory://``."""
    app.amqp.Connection = EmbeddedConnection
