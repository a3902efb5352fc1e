"""The entry of beat's schedule: a tick that triggers the sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.worker.installation import find_installation
from workflow_engine.worker.names import SWEEP

if TYPE_CHECKING:
    from workflow_engine.settings import Settings


def beat_entries(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the entries for beat's schedule; how a tick is published is the task's to know.

    No ``expires``: a worker whose clock is ahead would drop every tick. Ticks that pile up cost one query each, as the
    engine skips a sweep that comes too soon after another.
    """
    return {SWEEP: {"task": SWEEP, "schedule": settings.sweep_interval}}


def add_sweep(sender: Any, **_: object) -> None:
    """Add the sweep to the schedule of a beat that starts, unless the app's own ``beat_schedule`` has it.

    Only the scheduler is told: ``beat_schedule`` stays as the app has it, whoever assigns it and when. Every scheduler
    keeps what is added like this, in its file, its table or its Redis keys, as it does with Celery's own entry.
    """
    installation = find_installation(sender.app)
    if installation is not None and SWEEP not in sender.app.conf.beat_schedule:
        sender.scheduler.update_from_dict(beat_entries(installation.settings))
