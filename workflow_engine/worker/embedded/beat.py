"""Beat inside this process: a thread that sends what the app's schedule says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery.beat import EmbeddedService

if TYPE_CHECKING:
    from celery import Celery

#: Beat looks this often whether it should stop, and at its schedule.
LOOK_SECONDS: Final = 1


class EmbeddedBeat:
    """Sends the ticks of the engine, and whatever else the app schedules, from a thread of this process.

    The schedule is kept in memory: an entry that was due while the process was down is not made up for.

    Args:
        app: Its ``beat_schedule`` is followed.
    """

    def __init__(self, app: Celery) -> None:
        self._service: Any = EmbeddedService(
            app, max_interval=LOOK_SECONDS, thread=True, scheduler_cls="celery.beat:Scheduler"
        )

    def start(self) -> None:
        """Start the thread."""
        self._service.start()

    def stop(self) -> None:
        """End the thread."""
        self._service.service.stop()  # the thread's own way waits, without limit, also for a broker that is away
        self._service.join(timeout=10)
