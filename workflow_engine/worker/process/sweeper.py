"""A thread that sweeps from inside a worker: always, or as a fallback for a beat that is gone."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING, Final

from workflow_engine.worker.tasks import perform_sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from workflow_engine.worker.installation import Installation

logger = logging.getLogger("workflow_engine.worker")

STOP_SECONDS: Final = 3.0


class Sweeper:
    """Calls ``tick`` every ``interval``, a little more or less so that workers do not tick together.

    Any number of sweepers may run beside beat: the engine skips a sweep that comes too soon after another.
    """

    def __init__(self, tick: Callable[[], object], interval: timedelta) -> None:
        self._tick = tick
        self._interval = interval
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; the first tick comes at once."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="workflow-sweeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the tick it is in; nobody stays for one that waits for the database."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=STOP_SECONDS)
            self._thread = None

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._tick()
            self._stopped.wait(self._interval.total_seconds() * random.uniform(0.9, 1.1))  # noqa: S311 - spreads ticks


def build_sweeper(installation: Installation, *, with_sweeper: bool = False) -> Sweeper | None:
    """Return the sweeper that the options ask for; it only falls back, every third interval, unless told otherwise.

    ``with_sweeper`` is the worker's flag of that name: it sweeps every interval, whatever the options say.
    """
    intervals = 1 if with_sweeper else {"always": 1, "fallback": 3, "never": 0}[installation.options.sweep_in_workers]
    if not intervals:
        return None
    return Sweeper(lambda: _sweep(installation), installation.settings.sweep_interval * intervals)


def _sweep(installation: Installation) -> None:
    try:
        installation.engines.apart(lambda: perform_sweep(installation))
    except OSError as error:
        logger.warning("this tick does not sweep: %s", error)
