"""What beat sends: a tick that triggers the sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.worker.names import SWEEP, control_queue

if TYPE_CHECKING:
    from workflow_engine.settings import Settings


def beat_entries(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the entries for beat's schedule.

    No ``expires``: a worker whose clock is ahead would drop every tick. Ticks that pile up cost one query each, as the
    engine skips a sweep that comes too soon after another.
    """
    return {
        SWEEP: {
            "task": SWEEP,
            "schedule": settings.sweep_interval,
            "options": {"queue": control_queue(settings.queue), "priority": 0},
        }
    }
