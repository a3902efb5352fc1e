"""The fast path: the worker's main process sees its children die, and gives their stages back at once."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from billiard.exceptions import WorkerLostError
from celery.worker.request import Request

from workflow_engine import engine as commands
from workflow_engine.engine import worker_id_prefix
from workflow_engine.store.database_errors import summarize_any
from workflow_engine.worker.installation import get_installation

if TYPE_CHECKING:
    from workflow_engine.worker.installation import Installation

logger = logging.getLogger("workflow_engine.worker")


class StageRequest(Request):
    """A request of one of our tasks: when its process is lost, the stages that the process held are given back."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002 - Celery's signature
        """Handle what Celery says about a request that did not end well."""
        pid: Any = self.worker_pid
        app: Any = self.app
        if _is_lost_process(exc_info) and pid not in (None, os.getpid()):
            # In a thread: this is the main process' event loop, and the database may be slow to answer.
            threading.Thread(target=give_back, args=(get_installation(app), pid), daemon=True).start()
        return super().on_failure(exc_info, send_failed_event, return_ok)


def give_back(installation: Installation, pid: int) -> None:
    """Give what the ended process of this worker held to others: reaped as a crash, or released if it was told to stop."""
    command = commands.release_worker if installation.stopping.is_set() else commands.reap_worker
    try:
        with installation.engines.visit() as engine:
            count = command(engine, worker_id_prefix(pid))
    except Exception as error:  # noqa: BLE001 - an optimisation: the leases run out anyway
        logger.warning("process %d ended; its stages wait until their leases run out (%s)", pid, summarize_any(error))
    else:
        if count:
            logger.warning("process %d ended: gave %d stage runs back", pid, count)


def _is_lost_process(exc_info: Any) -> bool:
    error = getattr(exc_info.exception, "exc", exc_info.exception)  # the pool wraps it
    return isinstance(error, (WorkerLostError, SystemExit))
