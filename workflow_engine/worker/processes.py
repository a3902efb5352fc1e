"""One engine per process: the worker's main process and every pool child have connections and threads of their own."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.engine import Engine


class EngineHolder:
    """Builds the engine at first use, and another one in every process that is forked afterwards.

    The process id is compared at each use instead of listening to Celery's signals: that also covers processes that
    something else than Celery's pool forks.
    """

    def __init__(self, build: Callable[[], Engine]) -> None:
        self._build = build
        self._engine: Engine | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def get(self) -> Engine:
        """Return the engine of this process."""
        if self._pid != os.getpid():
            self._leave_parent()
        with self._lock:
            if self._engine is None:
                self._engine = self._build()
            return self._engine

    def find(self) -> Engine | None:
        """Return the engine of this process if it was built."""
        return self._engine if self._pid == os.getpid() else None

    def close(self) -> None:
        """Close the engine of this process; the next use builds another."""
        engine, self._engine = self.find(), None
        if engine is not None:
            engine.close()

    def _leave_parent(self) -> None:
        self._lock = threading.Lock()  # the parent's may have been held during the fork
        self._pid = os.getpid()
        if self._engine is not None:
            self._engine = self._engine.after_fork()
