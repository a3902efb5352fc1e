"""Hints that are due sooner than the next sweep would notice: an optimisation that may be lost at any time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING

from workflow_engine.worker.wire.process_state import ProcessState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from workflow_engine.store.records import Hint


class DueTimers(ProcessState):
    """Sends hints at their due time from one thread of this process, started with the first one.

    Args:
        send: Called with the hints that have become due; must not raise.
        longest: Longer waits are left to the sweep.
        monotonic: The clock that due times are measured by.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Hint]], None],
        longest: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._longest = longest
        self._monotonic = monotonic
        self._counter = itertools.count()
        self._reset()

    def add(self, hint: Hint, delay: timedelta) -> bool:
        """Remember to send ``hint`` after ``delay``; False when the wait is left to the sweep."""
        if delay > self._longest:
            return False
        self._notice_fork()
        with self._changed:
            heapq.heappush(self._heap, (self._monotonic() + delay.total_seconds(), next(self._counter), hint))
            self._start()
            self._changed.notify()
        return True

    def stop(self) -> None:
        """Forget what is pending and end the thread; the next hint starts another."""
        self._notice_fork()
        with self._changed:
            self._stopped = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10)
        self._reset()

    def take_due(self) -> list[Hint]:
        """Return the hints whose time has come, and forget them."""
        due = []
        with self._changed:
            while self._heap and self._heap[0][0] <= self._monotonic():
                due.append(heapq.heappop(self._heap)[2])
        return due

    def _make_anew(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Hint]] = []
        self._thread: threading.Thread | None = None
        self._stopped = False

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="workflow-due-timers", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._wait():
            due = self.take_due()
            if due:
                self._send(due)

    def _wait(self) -> bool:
        """Wait until something may be due; False when stopped."""
        with self._changed:
            while not self._stopped:
                wait = self._heap[0][0] - self._monotonic() if self._heap else None
                if wait is not None and wait <= 0:
                    return True
                self._changed.wait(wait)
            return False
