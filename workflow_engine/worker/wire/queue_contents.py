"""What the broker's queues hold: how many messages wait, asked in one round trip where the transport can do that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from amqp.exceptions import ChannelError

from workflow_engine.worker.wire.broker_priorities import STEPS, list_name, priority_step
from workflow_engine.worker.wire.memory_transport import MemoryChannel
from workflow_engine.worker.wire.supported_brokers import Broker, broker_of

if TYPE_CHECKING:
    from collections.abc import Collection

#: What a broker answers, as a text or a number, when a queue that was not to be declared is not there.
NOT_FOUND: Final = "404"


def count_lists(channel: Any, lists: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Return the number of messages in each (queue, priority) list.

    RabbitMQ, and kombu's own memory:// in a team's app, count a queue and not its priorities: a list counts as long as
    its queue, so "empty" is said later than it could be, never too early. Messages that a consumer holds do not count there, as on Redis: a worker that is alive
    acts on them, and those of a worker that is not return to the queue.
    """
    if not _has_lists(channel):
        sizes = _count_declared(channel, {queue for queue, _ in lists})
        return {(queue, priority): sizes[queue] for queue, priority in lists}
    steps = {(queue, priority): (queue, priority_step(priority)) for queue, priority in lists}
    counts = _count_steps(channel, sorted(set(steps.values())))
    return {item: counts[step] for item, step in steps.items()}


def count_queues(channel: Any, queues: Collection[str]) -> dict[str, int]:
    """Return the number of messages in each queue."""
    if not _has_lists(channel):
        return _count_declared(channel, queues)
    counts = _count_steps(channel, [(queue, step) for queue in queues for step in range(STEPS)])
    return {queue: sum(counts[queue, step] for step in range(STEPS)) for queue in queues}


def find_foreign_keys(channel: Any, queues: Collection[str]) -> list[str]:
    """Return which of the Redis keys that hold messages of the queues hold something else than a list."""
    # kombu puts the prefix before the keys of the commands that it uses itself; TYPE is none of them.
    lists = [(queue, step) for queue in queues for step in range(STEPS)]
    keys = [f"{channel.global_keyprefix}{list_name(queue, step, channel.sep)}" for queue, step in lists]
    kinds = [kind.decode() for kind in _ask_redis(channel, "type", keys)]
    return [f"{key!r} is a {kind}" for key, kind in zip(keys, kinds, strict=True) if kind not in ("none", "list")]


def _has_lists(channel: Any) -> bool:
    return broker_of(channel) is Broker.REDIS or isinstance(channel, MemoryChannel)


def _count_steps(channel: Any, lists: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    if broker_of(channel) is Broker.REDIS:
        names = [list_name(queue, step, channel.sep) for queue, step in lists]
        return dict(zip(lists, _ask_redis(channel, "llen", names), strict=True))
    return {(queue, step): channel.count(queue, step) for queue, step in lists}


def _ask_redis(channel: Any, command: str, keys: list[str]) -> list[Any]:
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
        for key in keys:
            getattr(pipeline, command)(key)
        answers: list[Any] = pipeline.execute()
        return answers


def _count_declared(channel: Any, queues: Collection[str]) -> dict[str, int]:
    sizes = {}
    for queue in queues:
        try:
            sizes[queue] = int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError as error:
            if str(error.reply_code) != NOT_FOUND:
                raise
            sizes[queue] = 0  # the error has closed the channel, which opens itself again
    return sizes
