"""The fast path: the worker's main process sees its children die, and gives their stages back at once."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery.exceptions import WorkerLostError
from celery.worker.request import Request

from workflow_engine import engine as commands
from workflow_engine.engine import worker_id_prefix
from workflow_engine.store.connection.error_texts import summarize_any
from workflow_engine.worker.engine_holder import LONGEST
from workflow_engine.worker.installation import get_installation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from workflow_engine.engine import Engine
    from workflow_engine.worker.installation import Installation

logger = logging.getLogger("workflow_engine.worker")


class StageRequest(Request):
    """A request of one of our tasks: when its process is lost, the stages that the process held are given back.

    The app's and the worker's settings for tasks in general do not reach it: time limits, accepted content, the end of
    long tasks when the connection is lost.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        # The pool's process would read the body as the app's accept_content says; the guard has read it already.
        payload: Any = message.payload
        self._body = payload
        self._content_type = self._content_encoding = None

    @property
    def _apply_result(self) -> Any:
        return self.__dict__.get("_apply_result")

    @_apply_result.setter
    def _apply_result(self, reference: Any) -> None:
        """Note what the pool returned, as Celery does, and lift the time limits that the pool has for all tasks."""
        self.__dict__["_apply_result"] = reference
        result: Any = None if reference is None else reference()
        if hasattr(result, "_soft_timeout"):  # a pool of processes
            result._soft_timeout = result._timeout = 0  # noqa: SLF001 - None would mean those of the pool

    def cancel(self, *arguments: Any, **options: Any) -> None:
        """End the execution when the worker ends; a lost connection to the broker is no reason."""
        app: Any = self.app
        if get_installation(app).stopping.is_set():
            super().cancel(*arguments, **options)

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
    """Give the stages of ended processes to others: reaped as a crash, or released if the worker was told to stop.

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
        logger.warning("process %d ended; its stages wait until their leases run out (%s)", pid, summarize_any(error))
    else:
        if count:
            logger.warning("process %d ended: gave %d stage runs back", pid, count)


def _is_lost_process(exc_info: Any) -> bool:
    error = getattr(exc_info.exception, "exc", exc_info.exception)  # the pool wraps it
    return isinstance(error, (WorkerLostError, SystemExit))
