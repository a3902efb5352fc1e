"""One engine per process, and none in a process while it forks.

Pool children have an engine each. The main process of a prefork pool needs one now and then (to sweep, to give back
what a dead child held), and forks new children at any time: a connection, a half-done import or a lock of the database
library that is copied by a fork is broken in the child. So the main process makes an engine for a moment, closes it,
and holds back forks in between.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workflow_engine.engine import Engine

#: Held by whoever must not be copied by a fork, and by the fork itself.
_forking = threading.RLock()
os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forking.release)


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
        """Say that this process forks others from now on, and is no place for an engine that stays."""
        self._forking_pid = os.getpid()

    def get(self) -> Engine:
        """Return the engine of this process."""
        if self._pid != os.getpid():
            self._leave_parent()
        with self._lock:
            if self._engine is None:
                self._engine = self._build()
            return self._engine

    @contextmanager
    def visit(self) -> Iterator[Engine]:
        """Lend an engine: the one of this process, or one for a moment in a process that forks others."""
        if self._forking_pid != os.getpid():
            yield self.get()
            return
        with _forking:
            engine = self._build()
            try:
                yield engine
            finally:
                engine.close()

    def close(self) -> None:
        """Close the engine of this process; the next use builds another."""
        if self._pid == os.getpid() and self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()

    def _leave_parent(self) -> None:
        self._lock = threading.Lock()  # the parent's may have been held during the fork
        if self._engine is not None:
            self._engine = self._engine.after_fork()
        self._pid = os.getpid()  # last: other threads go on as soon as they see it
