"""The executor's hints: a dispatcher whose queue is a list of this process instead of a broker."""

from __future__ import annotations

import heapq
import itertools
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from workflow_engine.clock import Clock
    from workflow_engine.store.records import Hint

#: A delayed hint is due so much later than it says, because the database rounds its time to milliseconds.
_MARGIN: Final = timedelta(milliseconds=5)


class HintQueue:
    """A dispatcher that keeps its hints in memory: the most important hint comes first, a delayed one when it is due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._ready: list[tuple[int, int, Hint]] = []
        self._later: list[tuple[float, int, Hint]] = []

    def dispatch(self, hints: Sequence[Hint]) -> None:
        """Keep the hints."""
        with self._lock:
            for hint in hints:
                heapq.heappush(self._ready, (-hint.priority, next(self._numbers), hint))

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        """Keep the hint until ``delay`` has passed."""
        with self._lock:
            due = self._clock.monotonic() + (delay + _MARGIN).total_seconds()
            heapq.heappush(self._later, (due, next(self._numbers), hint))

    def terminate(self, hints: Sequence[Hint]) -> None:
        """Do nothing: threads cannot be ended; their bodies see ``ctx.cancelled``."""

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]] | None:  # noqa: ARG002 - the port's
        """Say that it is unknown: else the sweep would send other runs' stages to this queue, where nobody takes them."""
        return None

    def take(self, belongs: Callable[[str], bool], limit: int) -> list[Hint]:
        """Return up to ``limit`` due hints of runs that belong here; hints of other runs are dropped."""
        taken: list[Hint] = []
        while len(taken) < limit and (hint := self._pop()) is not None:
            if belongs(hint.run_id):
                taken.append(hint)
        return taken

    def _pop(self) -> Hint | None:
        with self._lock:
            while self._later and self._later[0][0] <= self._clock.monotonic():
                _, number, hint = heapq.heappop(self._later)
                heapq.heappush(self._ready, (-hint.priority, number, hint))
            return heapq.heappop(self._ready)[2] if self._ready else None

    def time_left(self) -> timedelta:
        """Return how long it takes until a hint is due; a long time if none is known."""
        with self._lock:
            if self._ready:
                return timedelta(0)
            if not self._later:
                return timedelta(days=1)
            left = self._later[0][0] - self._clock.monotonic()
            # Less than a microsecond is no duration, but the hint is not due yet: whoever waits must wait at all.
            return timedelta(0) if left <= 0 else max(timedelta.resolution, timedelta(seconds=left))
