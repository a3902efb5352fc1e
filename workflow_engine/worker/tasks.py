"""The two tasks: a few lines each around the engine's commands; nothing they do raises into Celery.

Nothing that an app sets for its tasks in general acts on them: neither its base class nor its defaults.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from celery import Task

from workflow_engine import engine as commands
from workflow_engine.errors import DatabaseTimeoutError, DatabaseUnavailableError
from workflow_engine.payloads.secrets import clean_text
from workflow_engine.store.connection.error_texts import loggable
from workflow_engine.worker.names import EXECUTE_STAGE, SWEEP, control_queue
from workflow_engine.worker.wire.messages import tick_body, tick_options
from workflow_engine.worker.wire.queues import find_queue
from workflow_engine.worker.wire.supported_brokers import Broker, broker_of

if TYPE_CHECKING:
    from celery import Celery

    from workflow_engine.worker.installation import Installation

logger = logging.getLogger("workflow_engine.worker")

#: Nothing of Celery's recovers anything: the database does, so a message is acknowledged late, once, and never comes
#: back.
TASK_OPTIONS: Final[dict[str, Any]] = {
    "shared": False,
    "acks_late": True,
    "acks_on_failure_or_timeout": True,
    "reject_on_worker_lost": False,
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    "max_retries": 0,
    "serializer": "json",
    "typing": False,
    "Strategy": "workflow_engine.worker.wire.message_guards:guarded_strategy",
    "Request": "workflow_engine.worker.process.stage_requests:StageRequest",
}


class EngineTask(Task):  # type: ignore[type-arg] # its parameters exist for type checkers only
    """A task that takes nothing from the configuration of its app."""

    abstract = True
    #: What Celery fills in from the app's defaults: task_time_limit, task_default_rate_limit and the like.
    from_config: tuple[tuple[str, str], ...] = ()

    @classmethod
    def annotate(cls) -> None:
        """Take nothing from ``task_annotations``."""


class SweepTask(EngineTask):
    """Sweeps; its messages are beat's."""

    abstract = True
    #: Where ticks go.
    control_queue: str

    def apply_async(self, *_: Any, producer: Any = None, **__: Any) -> None:  # type: ignore[override]
        """Publish a tick, past the app's routes, serializers, defaults and ``task_always_eager``.

        Beat calls this, with a producer on a connection of the app and the entry's options.
        """
        app: Any = self.app
        retry = {"retry": app.conf.task_publish_retry, "retry_policy": app.conf.task_publish_retry_policy}
        with app.producer_or_acquire(producer) as publisher:
            broker = broker_of(publisher.channel)
            # RabbitMQ drops a message for a queue that is not there.
            queues = [find_queue(app, self.control_queue)] if broker is Broker.RABBITMQ else []
            publisher.publish(tick_body(), declare=queues, **tick_options(self.control_queue, broker), **retry)


#: While the database is away a slot is held this long, so that workers do not empty the queue in vain.
DATABASE_PAUSE: Final = timedelta(seconds=1)

ERROR: Final = "error"
#: Celery logs the result of a task on one line.
LONGEST_RESULT: Final = 300


def register_tasks(app: Celery, installation: Installation) -> None:
    """Register the tasks on this app alone."""

    @app.task(
        name=EXECUTE_STAGE,
        base=EngineTask,
        **TASK_OPTIONS,
    )
    def execute_stage(stage_run_id: str, dispatch_number: int) -> str:
        return perform_stage(installation, stage_run_id, dispatch_number)

    @app.task(
        name=SWEEP,
        base=SweepTask,
        control_queue=control_queue(installation.settings.queue),
        **TASK_OPTIONS,
    )
    def sweep() -> str:
        return perform_sweep(installation)


def perform_stage(installation: Installation, stage_run_id: str, dispatch_number: int) -> str:
    """Execute what a hint names and return what came of it, which Celery logs: ``failed: ValueError: no such page``."""
    try:
        engine = installation.engines.get()
    except BaseException as error:
        logger.exception(
            "stage run %s: the engine cannot be built; the sweep will send it again",
            stage_run_id,
            exc_info=loggable(error),
        )
        return ERROR
    try:
        done = commands.execute_stage(engine, stage_run_id, dispatch_number)
        return done.result if done.problem is None else clean_text(f"{done.result}: {done.problem}", LONGEST_RESULT)
    except (DatabaseUnavailableError, DatabaseTimeoutError) as error:
        logger.warning(
            "stage run %s: the database is unavailable (%s); the sweep will send it again", stage_run_id, error
        )
        engine.clock.sleep(DATABASE_PAUSE)
    except BaseException as error:  # a MemoryError that reaches Celery ends the worker's main process
        _let_process_end(error)
        logger.exception(
            "stage run %s: the engine failed; its lease will run out", stage_run_id, exc_info=loggable(error)
        )
    return ERROR


def perform_sweep(installation: Installation) -> str:
    """Sweep once and return one word about it."""
    try:
        report = commands.sweep(installation.engines.get())
    except BaseException as error:  # as above; the next tick tries again
        _let_process_end(error)
        logger.exception("the sweep failed; the next tick tries again", exc_info=loggable(error))
        return ERROR
    return "skipped" if report.skipped else "swept"


def _let_process_end(error: BaseException) -> None:
    """Let a signal end this process: the pool sees that, and what the process held is given back."""
    signal_name = commands.find_ending_signal(error)
    if signal_name is not None:
        logger.warning("process %d was told to end by %s: what it executes is given back", os.getpid(), signal_name)
        raise error
