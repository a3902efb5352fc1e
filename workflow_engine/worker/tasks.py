"""The two tasks: a few lines each around the engine's commands; nothing they do raises into Celery."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from workflow_engine import engine as commands
from workflow_engine.errors import DatabaseUnavailableError
from workflow_engine.redact import clean_text
from workflow_engine.store.database_errors import loggable
from workflow_engine.worker.names import EXECUTE_STAGE, SWEEP

if TYPE_CHECKING:
    from celery import Celery

    from workflow_engine.worker.installation import Installation

logger = logging.getLogger("workflow_engine.worker")

#: Settings of our tasks only, whatever the app says for its own. Nothing of Celery's recovers anything: the database
#: does, so a message is acknowledged late (one per slot is reserved), once, and never comes back.
TASK_OPTIONS: Final[dict[str, Any]] = {
    "shared": False,
    "acks_late": True,
    "acks_on_failure_or_timeout": True,
    "reject_on_worker_lost": False,
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    "max_retries": 0,
    "serializer": "json",
    "rate_limit": None,
    "typing": False,
    "Request": "workflow_engine.worker.requests:StageRequest",
}

#: While the database is away a slot is held this long, so that workers do not empty the queue in vain.
DATABASE_PAUSE: Final = timedelta(seconds=1)

ERROR: Final = "error"
#: Celery logs the result of a task on one line.
LONGEST_RESULT: Final = 300


def register_tasks(app: Celery, installation: Installation) -> None:
    """Register the tasks on this app alone."""

    @app.task(name=EXECUTE_STAGE, Strategy="workflow_engine.worker.guards:stage_strategy", **TASK_OPTIONS)
    def execute_stage(stage_run_id: str, dispatch_number: int) -> str:
        return perform_stage(installation, stage_run_id, dispatch_number)

    @app.task(name=SWEEP, Strategy="workflow_engine.worker.guards:sweep_strategy", **TASK_OPTIONS)
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
    except DatabaseUnavailableError as error:
        logger.warning(
            "stage run %s: the database is unavailable (%s); the sweep will send it again", stage_run_id, error
        )
        engine.clock.sleep(DATABASE_PAUSE)
    except BaseException as error:  # a MemoryError that reaches Celery ends the worker's main process
        logger.exception(
            "stage run %s: the engine failed; its lease will run out", stage_run_id, exc_info=loggable(error)
        )
    return ERROR


def perform_sweep(installation: Installation) -> str:
    """Sweep once and return one word about it."""
    try:
        with installation.engines.visit() as engine:
            report = commands.sweep(engine)
    except BaseException as error:  # as above; the next tick tries again
        logger.exception("the sweep failed; the next tick tries again", exc_info=loggable(error))
        return ERROR
    return "skipped" if report.skipped else "swept"
