"""How the engine's queues are declared: alike by everybody who does it, as RabbitMQ refuses a second opinion.

Hints and ticks go to a queue by the default exchange; what an app itself would send there goes by an exchange of the
queue's name, as with every queue that Celery declares.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from amqp.exceptions import AccessRefused, PreconditionFailed
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from workflow_engine.errors import ConfigurationError
from workflow_engine.priorities import HIGHEST_PRIORITY
from workflow_engine.worker.wire.queue_contents import find_foreign_keys
from workflow_engine.worker.wire.supported_brokers import Broker, broker_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from celery import Celery

logger = logging.getLogger("workflow_engine.broker")

#: For RabbitMQ; other brokers take no notice. Changing one of them makes every deployed queue another one.
ARGUMENTS: Final[dict[str, Any]] = {
    "x-max-priority": HIGHEST_PRIORITY,
    # Said because a virtual host may have another default; quorum queues have no such priorities.
    "x-queue-type": "classic",
}

REMEDY: Final = (
    "Delete the queue (rabbitmqctl delete_queue NAME; its messages are hints, which the sweep sends again), or declare "
    "it in task_queues with the arguments that it has, or give the engine another name by WORKFLOW_ENGINE_QUEUE"
)


def engine_queue(name: str) -> Queue:
    """Return the declaration of a queue of the engine."""
    return Queue(name, Exchange(name), routing_key=name, queue_arguments=dict(ARGUMENTS))


def find_queue(app: Celery, name: str) -> Queue:
    """Return how the app declares the queue: what its ``task_queues`` say about it, else as a queue of the engine."""
    return app.amqp.queues[name] if name in _names_of(app.conf.task_queues) else engine_queue(name)


def _names_of(queues: Any) -> set[str]:
    return {getattr(queue, "name", queue) for queue in queues or ()}


def declare(app: Celery, channel: Any, name: str) -> None:
    """Declare a queue of RabbitMQ before something is published to it: it drops messages for a queue that is not there.

    A queue that cannot be declared may be there all the same: that is told, and no error.
    """
    try:
        find_queue(app, name)(channel).queue_declare()
    except PreconditionFailed as error:
        logger.error("%s. %s", error.reply_text, REMEDY)  # noqa: TRY400 - the broker's own words say it all
    except AccessRefused as error:
        logger.debug("the queue %r is left to the workers to declare: %s", name, error.reply_text)


def check_queues(app: Celery, names: Collection[str]) -> None:
    """Look whether a worker can consume the engine's queues, and declare them on RabbitMQ.

    A broker that cannot be reached now, or does not let us look, keeps no worker from starting.

    Raises:
        ConfigurationError: A queue of RabbitMQ exists with other arguments, or a key that a queue uses in Redis holds
            no list, which would end the worker at each start.
    """
    connection: Any = app.connection_for_read()
    try:
        with closing(connection):
            channel = connection.ensure_connection(max_retries=1, interval_start=0).channel()
            broker = broker_of(channel)
            if broker is Broker.RABBITMQ:
                for name in names:
                    find_queue(app, name)(channel).declare()
            problems = find_foreign_keys(channel, names) if broker is Broker.REDIS else []
    except PreconditionFailed as error:
        raise ConfigurationError(f"{error.reply_text}. {REMEDY}") from error
    except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
        logger.debug("queues are not checked, the broker cannot be reached, or does not let us: %s", error)
        return
    if problems:
        raise ConfigurationError(f"Redis keys that a queue needs hold something else: {', '.join(problems)}")


def find_queue_hazards(app: Celery, names: Iterable[str]) -> list[str]:
    """Return which of the engine's queues are declared by the app so that they keep no priorities on RabbitMQ."""
    plain = [name for name in names if "x-max-priority" not in _arguments_of(find_queue(app, name))]
    return [f"task_queues declares {name} without x-max-priority: priorities are not kept apart" for name in plain]


def _arguments_of(queue: Any) -> dict[str, Any]:
    own: dict[str, Any] = queue.queue_arguments or {}
    return own if queue.max_priority is None else {"x-max-priority": queue.max_priority, **own}
