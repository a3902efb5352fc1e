"""How many messages wait at the broker, asked in one round trip where the transport can do that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.worker.memory import MemoryChannel
from workflow_engine.worker.priorities import STEPS, list_name

if TYPE_CHECKING:
    from collections.abc import Collection


def count_lists(channel: Any, lists: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Return the number of messages in each (queue, step) list.

    Transports without a list per step count the whole queue for each of its steps: "empty" is then said later than
    it could be, never too early.
    """
    if is_redis(channel):
        return _count_redis(channel, sorted(lists))
    if isinstance(channel, MemoryChannel):
        return {(queue, step): channel.count(queue, step) for queue, step in lists}
    sizes = {queue: _declared_size(channel, queue) for queue, _ in lists}
    return {(queue, step): sizes[queue] for queue, step in lists}


def count_queues(channel: Any, queues: Collection[str]) -> dict[str, int]:
    """Return the number of messages in each queue."""
    if not is_redis(channel):
        return {queue: _declared_size(channel, queue) for queue in queues}
    counts = _count_redis(channel, [(queue, step) for queue in queues for step in range(STEPS)])
    return {queue: sum(counts[queue, step] for step in range(STEPS)) for queue in queues}


def is_redis(channel: Any) -> bool:
    """Whether the channel belongs to one of kombu's Redis transports."""
    return hasattr(channel, "conn_or_acquire")


def _count_redis(channel: Any, lists: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
        for queue, step in lists:
            pipeline.llen(list_name(queue, step, channel.sep))
        return dict(zip(lists, pipeline.execute(), strict=True))


def _declared_size(channel: Any, queue: str) -> int:
    size: int = channel.queue_declare(queue, durable=True, auto_delete=False).message_count
    return size
