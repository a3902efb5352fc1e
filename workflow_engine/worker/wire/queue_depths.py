"""How many messages wait at the broker, asked in one round trip where the transport can do that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp.exceptions import NotFound

from workflow_engine.worker.wire.broker_priorities import STEPS, list_name, priority_step
from workflow_engine.worker.wire.supported_brokers import Broker, broker_of

if TYPE_CHECKING:
    from collections.abc import Collection


def count_lists(channel: Any, lists: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Return the number of messages in each (queue, priority) list.

    RabbitMQ counts a queue, not its priorities: a list counts as long as its queue, so "empty" is said later than it
    could be, never too early. Messages that a consumer holds do not count there, as on Redis: a worker that is alive
    acts on them, and those of a worker that is not return to the queue.
    """
    broker = broker_of(channel)
    if broker is Broker.RABBITMQ:
        sizes = _count_declared(channel, {queue for queue, _ in lists})
        return {(queue, priority): sizes[queue] for queue, priority in lists}
    steps = {(queue, priority): (queue, priority_step(priority)) for queue, priority in lists}
    if broker is Broker.REDIS:
        counts = _count_redis(channel, sorted(set(steps.values())))
    else:
        counts = {step: channel.count(*step) for step in steps.values()}
    return {item: counts[step] for item, step in steps.items()}


def count_queues(channel: Any, queues: Collection[str]) -> dict[str, int]:
    """Return the number of messages in each queue."""
    broker = broker_of(channel)
    if broker is Broker.RABBITMQ:
        return _count_declared(channel, queues)
    lists = [(queue, step) for queue in queues for step in range(STEPS)]
    counts = _count_redis(channel, lists) if broker is Broker.REDIS else {item: channel.count(*item) for item in lists}
    return {queue: sum(counts[queue, step] for step in range(STEPS)) for queue in queues}


def _count_redis(channel: Any, lists: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
        for queue, step in lists:
            pipeline.llen(list_name(queue, step, channel.sep))
        return dict(zip(lists, pipeline.execute(), strict=True))


def _count_declared(channel: Any, queues: Collection[str]) -> dict[str, int]:
    sizes = {}
    for queue in queues:
        try:
            sizes[queue] = int(channel.queue_declare(queue, passive=True).message_count)
        except NotFound:  # closes the channel, which opens itself again
            sizes[queue] = 0
    return sizes
