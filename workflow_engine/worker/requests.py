"""The fast path: the worker's main process sees its children die, and gives their stages back at once."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from billiard.exceptions import WorkerLostError
from celery.worker.request import Request

from workflow_engine import engine as commands
from workflow_engine.engine import worker_id_prefix
from workflow_engine.worker.installation import get_installation
from workflow_engine.worker.processes import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from workflow_engine.engine import Engine
    from workflow_engine.worker.installation import Installation

logger = logging.getLogger("workflow_engine.worker")


class StageRequest(Request):
    """A request of one of our tasks: when its process is lost, the stages that the process held are given back."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002 - Celery's signature
        """Handle what Celery says about a request that did not end well."""
        pid: Any = self.worker_pid
        app: Any = self.app
        if _is_lost_process(exc_info) and pid not in (None, os.getpid()):
            # In a thread: this is the main process' event loop, which waits for nobody.
            threading.Thread(target=give_back, args=(get_installation(app), [pid]), daemon=True).start()
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Kill the process that executes the stage; a thread cannot be killed, its body sees ``ctx.cancelled``."""
        with suppress(NotImplementedError):
            super().terminate(pool, signal)


def give_back(installation: Installation, pids: Iterable[int], limit: timedelta = LONGEST) -> None:
    """Give what ended processes of this worker held to others: reaped as a crash, or released if it was told to stop.

    Never raises: it is an optimisation, the leases run out anyway.
    """
    command = commands.release_worker if installation.stopping.is_set() else commands.reap_worker

    def work() -> None:
        for pid in pids:
            _give_back(installation, command, pid)

    try:
        installation.engines.apart(work, limit)
    except OSError as error:
        logger.warning("stages of ended processes wait until their leases run out (%s)", error)


def _give_back(installation: Installation, command: Callable[[Engine, str], int], pid: int) -> None:
    try:
        count = command(installation.engines.get(), worker_id_prefix(pid))
    except Exception as error:  # noqa: BLE001 - as above
        logger.warning("process %d ended; its stages wait until their leases run out (%s)", pid, error)
    else:
        if count:
            logger.warning("process %d ended: gave %d stage runs back", pid, count)


def _is_lost_process(exc_info: Any) -> bool:
    error = getattr(exc_info.exception, "exc", exc_info.exception)  # the pool wraps it
    return isinstance(error, (WorkerLostError, SystemExit))
