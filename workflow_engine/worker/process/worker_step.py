"""What a worker of the app does besides its tasks: queues, checks at start, sweeping, and an end in good order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from billiard import get_start_method
from celery import bootsteps, signals
from celery.apps.worker import Worker
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.utils.text import str_to_list

from workflow_engine.errors import ConfigurationError
from workflow_engine.worker.configuration_warnings import warn_about_configuration
from workflow_engine.worker.installation import find_installation, get_installation
from workflow_engine.worker.process.consumer_connection import serve_by
from workflow_engine.worker.process.shutdown import Shutdown
from workflow_engine.worker.process.supported_pools import check_sweeper, is_green, leave_out_queues
from workflow_engine.worker.process.sweeper import build_sweeper
from workflow_engine.worker.wire.queues import check_queues, find_queue
from workflow_engine.worker.wire.supported_brokers import Broker, check_broker

if TYPE_CHECKING:
    from celery import Celery

    from workflow_engine.worker.installation import Installation

logger = logging.getLogger("workflow_engine.worker")


@signals.celeryd_init.connect(weak=False)
def add_queues(instance: Any, options: Any = None, **_: object) -> None:
    """Add the engine's queues to those that a worker consumes by default; Celery applies ``-Q`` and ``-X`` afterwards.

    Celery would make up a declaration of its own for ``-Q workflow`` if it did not know that queue by then.
    """
    installation = find_installation(instance.app)
    if installation is None:
        return
    queues: Any = (options or {}).get("queues") or []
    asked = str_to_list(queues)
    select_queues(instance.app, [name for name in installation.list_queues() if installation.consume or name in asked])


def select_queues(app: Celery, names: list[str]) -> None:
    """Add the queues to those that a worker of the app consumes."""
    for name in names:
        app.amqp.queues.select_add(find_queue(app, name))


class WorkflowStep(bootsteps.StartStopStep):
    """Started with the worker, before it consumes; stopped after it has stopped consuming."""

    def __init__(self, worker: Any, *, with_sweeper: bool = False, **options: Any) -> None:
        super().__init__(worker, **options)
        self._installation = get_installation(worker.app)
        self._queues = list_consumed(worker.app, self._installation)
        if self._queues and not is_green(worker.pool_cls):
            check_broker(worker.app)
            check_memory(worker)
        check_sweeper(worker, with_sweeper=with_sweeper)
        leave_out_queues(worker, self._installation.list_queues())
        self._sweeper = build_sweeper(self._installation, with_sweeper=with_sweeper)
        self._shutdown = Shutdown(self._installation)

    def start(self, worker: Any) -> None:
        """Make the worker fit for the engine's queues if it consumes any, then begin to sweep."""
        if is_green(worker.pool):
            return  # it executes no stage, and must not wait for the database
        if self._queues:
            warn_about_configuration(worker.app)
            check_queues(worker.app, self._queues)
            serve_by(worker.consumer, self._queues)
        else:
            logger.warning(
                "this worker consumes none of the engine's queues (%s): it executes no stage. Leave -Q away, or name them",
                ", ".join(self._installation.list_queues()),
            )
        if isinstance(worker.pool, PreforkPool) and get_start_method() == "fork":
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


def list_consumed(app: Celery, installation: Installation) -> list[str]:
    """Return the engine's queues that a worker of the app consumes, declared as the engine does.

    Workers that do not come from the command line, such as those of ``celery.contrib.testing``, are given the queues
    here: they do not send the signal.
    """
    queues: Any = app.amqp.queues
    names = installation.list_queues()
    is_selection = queues._consume_from is not None  # noqa: SLF001 - by -Q
    if installation.consume and not is_selection:
        select_queues(app, [name for name in names if name not in queues])  # those that -X took away are known
    consumed = [name for name in names if name in queues.consume_from]
    select_queues(app, consumed)
    return consumed


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
