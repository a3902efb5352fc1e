"""The end of a worker: running stages may finish for a while, then they are given back without burning an attempt."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.worker import state

from workflow_engine.worker.process.stage_requests import StageRequest, give_back

if TYPE_CHECKING:
    from workflow_engine.worker.installation import Installation

logger = logging.getLogger("workflow_engine.worker")

#: How often the end looks whether what it waits for has happened.
LOOK_SECONDS = 0.1
#: How long the main process of a pool of processes stays for the database at its very end.
END_LIMIT = timedelta(seconds=10)


class Shutdown:
    """Watches one worker of this process from the signal that stops it until it has stopped."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._stopped = threading.Event()

    def watch(self, worker: Any) -> None:
        """Listen for the worker's end."""
        self._worker = worker
        signals.worker_shutting_down.connect(self._begin, sender=worker.hostname)
        signals.worker_shutdown.connect(self._end, sender=worker)

    def _begin(self, **_: object) -> None:
        # In a signal handler of the main thread, which may be in the middle of anything: only start the clock.
        if not self._installation.stopping.is_set():
            self._installation.stopping.set()
            threading.Thread(target=self._limit, name="workflow-shutdown", daemon=True).start()

    def _end(self, **_: object) -> None:
        self._stopped.set()
        give_back(self._installation, {os.getpid(), *self._list_children()}, END_LIMIT)
        self._installation.engines.close()

    def _limit(self) -> None:
        """Wait for the grace to pass; then end the processes, or this process, that still execute stages."""
        if self._stopped.wait(self._installation.options.shutdown_grace.total_seconds()):
            return
        running = [request for request in list(state.active_requests) if isinstance(request, StageRequest)]
        logger.warning("the shutdown grace is over: %d stages are given back", len(running))
        pids: set[Any] = {request.worker_pid for request in running} - {None}
        for pid in pids - {os.getpid()}:
            self._end_child(pid)
        if os.getpid() in pids:
            self._end_self()

    def _end_child(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while _is_alive(pid) and not self._stopped.wait(LOOK_SECONDS):
            pass
        give_back(self._installation, [pid])

    def _end_self(self) -> None:
        """Threads cannot be ended: give back what they do, wait for the app's own tasks, and leave."""
        give_back(self._installation, [os.getpid()])
        while any(not isinstance(request, StageRequest) for request in list(state.active_requests)):
            self._stopped.wait(LOOK_SECONDS)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def _list_children(self) -> list[int]:
        pool = getattr(self._worker.pool, "_pool", None)
        return [process.pid for process in getattr(pool, "_pool", None) or []]


def _is_alive(pid: int) -> bool:
    """Whether the child still executes; one that ended and was not waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a kernel file
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
