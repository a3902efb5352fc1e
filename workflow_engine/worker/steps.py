"""What a worker of the app does besides its tasks: queues, checks at start, sweeping, and an end in good order."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.apps.worker import Worker
from celery.concurrency.prefork import TaskPool as PreforkPool
from kombu.exceptions import OperationalError

from workflow_engine.errors import ConfigurationError
from workflow_engine.worker.configuration import check_configuration
from workflow_engine.worker.installation import find_installation, get_installation
from workflow_engine.worker.priorities import STEPS, list_name
from workflow_engine.worker.queues import add_known, check_declarations, find_queue
from workflow_engine.worker.shutdown import Shutdown
from workflow_engine.worker.sweeper import build_sweeper
from workflow_engine.worker.transports import Broker, check_broker

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger("workflow_engine.worker")


@signals.celeryd_init.connect(weak=False)
def add_queues(instance: Any, **_: object) -> None:
    """Add the engine's queues to those that a worker consumes by default; Celery applies ``-Q`` and ``-X`` afterwards."""
    installation = find_installation(instance.app)
    if installation is None:
        return
    add_known(instance.app, installation.list_queues())
    if installation.consume:
        select_queues(instance.app, installation.list_queues())


def select_queues(app: Celery, names: list[str]) -> None:
    """Add the queues to those that a worker of the app consumes."""
    for name in names:
        app.amqp.queues.select_add(find_queue(app, name))


class WorkflowStep(bootsteps.StartStopStep):
    """Started with the worker, before it consumes; stopped after it has stopped consuming."""

    def __init__(self, worker: Any, *, with_sweeper: bool = False, **options: Any) -> None:
        super().__init__(worker, **options)
        check_configuration(worker.app)
        check_broker(worker.app)
        check_memory(worker)
        self._installation = get_installation(worker.app)
        self._sweeper = build_sweeper(self._installation, with_sweeper=with_sweeper)
        self._shutdown = Shutdown(self._installation)

    def start(self, worker: Any) -> None:
        """Check the broker's keys, then begin to sweep."""
        check_lists(worker.app)
        check_declarations(worker.app, self._installation.list_queues())
        if isinstance(worker.pool, PreforkPool):
            self._installation.engines.expect_forks()
        self._shutdown.watch(worker)
        if self._sweeper is not None:
            self._sweeper.start()

    def stop(self, worker: Any) -> None:  # noqa: ARG002 - the signature of a step
        """Stop sweeping; running stages go on."""
        if self._sweeper is not None:
            self._sweeper.stop()

    def terminate(self, worker: Any) -> None:
        """Stop at once."""
        self.stop(worker)


def check_memory(worker: Any) -> None:
    """Refuse to serve ``memory://`` in a process of Celery's own, which nobody else can reach.

    Raises:
        ConfigurationError: The worker was started by ``celery worker`` or ``workflow-engine worker``.
    """
    connection = worker.app.connection_for_read()
    if isinstance(worker, Worker) and connection.transport.driver_type == Broker.MEMORY:
        raise ConfigurationError(
            "memory:// is a broker within one process: give this worker Redis or RabbitMQ (WORKFLOW_ENGINE_BROKER_URL, "
            "or the app's broker_url), or run stages inside the application (runtime.start(), workflow-engine dev)"
        )


def check_lists(app: Celery) -> None:
    """Refuse to start on Redis keys that are no lists: consuming them would end the worker again and again.

    Raises:
        ConfigurationError: A key that a queue uses holds something else.
    """
    connection: Any = app.connection_for_read()
    queues = list(app.amqp.queues.consume_from)
    try:
        with closing(connection):
            problems = _find_foreign_keys(
                connection.ensure_connection(max_retries=1, interval_start=0).channel(), queues
            )
    except (OperationalError, *connection.connection_errors) as error:
        logger.debug("keys are not checked, the broker cannot be reached: %s", error)
        return
    if problems:
        raise ConfigurationError(f"Redis keys that a queue needs hold something else: {', '.join(problems)}")


def _find_foreign_keys(channel: Any, queues: list[str]) -> list[str]:
    if not hasattr(channel, "conn_or_acquire"):
        return []
    keys = [list_name(queue, step, channel.sep) for queue in queues for step in range(STEPS)]
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.type(key)
        types = [kind.decode() for kind in pipeline.execute()]
    return [f"{key!r} is a {kind}" for key, kind in zip(keys, types, strict=True) if kind not in ("none", "list")]
