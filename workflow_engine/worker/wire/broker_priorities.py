r"""Priorities: the public scale (0 to 10, higher is more important) in the terms of each broker.

RabbitMQ has the same scale. Redis has ten lists for each queue, of which 0 is served first; memory is ordered alike:

| priority | 10 | 9 | 8 | 7 | 6 | 5 | 4 | 3 | 2 | 1 and 0 |
|----------|----|---|---|---|---|---|---|---|---|---------|
| step     | 0  | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9       |

kombu keeps one list per queue and step, first in, first out: step 0 is the list named like the queue, step n is
``<queue>\x06\x16<n>``. Publishers and workers must agree on the steps; the separator stays kombu's own, because
bindings that a broker has stored with one separator cannot be read with another.
"""

from __future__ import annotations

from typing import Final

from workflow_engine.priorities import HIGHEST_PRIORITY
from workflow_engine.worker.wire.supported_brokers import Broker

#: How many lists a queue has.
STEPS: Final = 10

#: The transport option that gives each step a list of its own; kombu's default has four lists.
PRIORITY_STEPS: Final = {"priority_steps": list(range(STEPS))}


def priority_step(priority: int) -> int:
    """Return the kombu priority of a public one; 1 and 0 share the last step."""
    return min(STEPS - 1, max(0, HIGHEST_PRIORITY - priority))


def broker_priority(priority: int, broker: Broker) -> int:
    """Return the priority that a message of a public one carries on that broker."""
    return priority if broker is Broker.RABBITMQ else priority_step(priority)


def list_name(queue: str, step: int, separator: str) -> str:
    """Return the name of the Redis list that holds the messages of that queue and step."""
    return queue if step == 0 else f"{queue}{separator}{step}"
