from __future__ import annotations

import pytest
from kombu.transport.redis import Channel

from workflow_engine.worker.wire.broker_priorities import PRIORITY_STEPS, broker_priority, list_name, priority_step
from workflow_engine.worker.wire.queues import ARGUMENTS
from workflow_engine.worker.wire.supported_brokers import Broker


@pytest.mark.parametrize(
    ("priority", "step"),
    [(10, 0), (9, 1), (8, 2), (7, 3), (6, 4), (5, 5), (4, 6), (3, 7), (2, 8), (1, 9), (0, 9)],
)
def test_a_higher_priority_has_an_earlier_step(priority: int, step: int) -> None:
    assert priority_step(priority) == step


def test_on_rabbitmq_the_scale_is_our_own_and_the_queue_has_all_of_it() -> None:
    assert [broker_priority(priority, Broker.RABBITMQ) for priority in range(11)] == list(range(11))
    assert ARGUMENTS["x-max-priority"] == 10


def test_lists_are_named_as_kombu_names_them() -> None:
    channel = Channel.__new__(Channel)
    channel.priority_steps = PRIORITY_STEPS["priority_steps"]

    names = [list_name("workflow", step, Channel.sep) for step in range(10)]

    assert names == [channel._q_for_pri("workflow", step) for step in range(10)]
