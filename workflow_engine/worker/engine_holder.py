"""One engine per process that executes stages, and none in a process that forks others.

The main process of a prefork pool forks new children at any time, and shares its loop with the team's own tasks. A
connection, or a lock of a database library, that is copied by a fork is broken in the child; a fork that waits until
the database has answered holds up everything. So the main process never talks to the database: a short-lived child
sweeps for it, and gives back the stages of a child that died. A failure there ends with that child.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from workflow_engine.store.connection.error_texts import loggable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from workflow_engine.engine import Engine

logger = logging.getLogger("workflow_engine.worker")

#: A child that takes longer hangs: a lock of some library was held in the parent when it was forked. The next one may
#: have more luck; nothing is lost with a transaction that is not committed.
LONGEST: Final = timedelta(minutes=5)
LOOK_SECONDS: Final = 0.05


class EngineHolder:
    """Builds the engine of each process at first use.

    The process id is compared at each use instead of listening to Celery's signals: that also covers processes that
    something else than Celery's pool forks.

    Args:
        build: Makes a new engine at each call.
    """

    def __init__(self, build: Callable[[], Engine]) -> None:
        self._build = build
        self._engine: Engine | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        #: The process that forks pool children, if there is one.
        self._forking_pid: int | None = None

    def expect_forks(self) -> None:
        """Say that this process forks others from now on, and is no place for an engine."""
        self._forking_pid = os.getpid()

    def get(self) -> Engine:
        """Return the engine of this process."""
        if self._pid != os.getpid():
            self._leave_parent()
        with self._lock:
            if self._engine is None:
                self._engine = self._build()
            return self._engine

    def apart(self, work: Callable[[], object], limit: timedelta = LONGEST) -> None:
        """Call ``work``, which uses this holder, and wait for its end: here, or in a child if this process forks others.

        A child is killed after ``limit``; its errors are logged there.

        Raises:
            OSError: This process cannot fork now.
        """
        if self._forking_pid == os.getpid():
            perform_in_child(lambda: self._work_and_close(work), limit)
        else:
            work()

    def close(self) -> None:
        """Close the engine of this process; the next use builds another."""
        if self._pid == os.getpid() and self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()

    def _work_and_close(self, work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            self.close()

    def _leave_parent(self) -> None:
        self._lock = threading.Lock()  # the parent's may have been held during the fork
        if self._engine is not None:
            self._engine = self._engine.after_fork()
        self._pid = os.getpid()  # last: other threads go on as soon as they see it


def perform_in_child(work: Callable[[], object], limit: timedelta) -> None:
    """Call ``work`` in a forked child and wait until it has ended; kill it after ``limit``.

    Raises:
        OSError: This process cannot fork now.
    """
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(work, masked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    with suppress(ChildProcessError):  # something of the host's waits for every child
        _wait(pid, limit)


def _be_child(work: Callable[[], object], masked: Collection[int]) -> None:
    """Call ``work`` and leave, without anything that the end of the parent would do."""
    try:
        # The parent's handlers would stop a worker that is not here.
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends in good order
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        work()
    except BaseException as error:
        logger.exception("work that a child did for the main process failed", exc_info=loggable(error))
    finally:
        os._exit(0)


def _wait(pid: int, limit: timedelta) -> None:
    deadline, never = time.monotonic() + limit.total_seconds(), threading.Event()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() >= deadline:
            logger.error("process %d, which the main process had work for, hangs for %s and is killed", pid, limit)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        never.wait(LOOK_SECONDS)
