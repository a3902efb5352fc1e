"""Changes of a locked run and its stage runs that are no moves: no status is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from workflow_engine.events import EventType
from workflow_engine.priorities import RECOVERY_PRIORITY
from workflow_engine.store.schema.tables import stages

if TYPE_CHECKING:
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import StageRow


def pause(run: LockedRun) -> None:
    """Hold the claims of the run's stage runs."""
    run.change(paused_at=run.now)
    run.record(EventType.RUN_PAUSED)


def resume(run: LockedRun) -> None:
    """Let the claims go again."""
    run.change(paused_at=None)
    run.record(EventType.RUN_RESUMED)


def note_restart(run: LockedRun) -> None:
    """Note the first claim of a rerun: the duration of a run is that of its present generation."""
    run.change(started_at=run.now)


def set_deadline(run: LockedRun, deadline_in_ms: int) -> None:
    """Give the run a deadline, counted from now."""
    run.change(deadline_at=run.now + deadline_in_ms)


def supersede(run: LockedRun, stage: StageRow) -> None:
    """Mark an ended stage run as history, because the run's next generation has its stage again."""
    _change(run, stage, superseded_by=run.generation + 1)


def poll_now(run: LockedRun, stage: StageRow) -> None:
    """Make the next poll of a suspended stage run due at once."""
    _change(run, stage, next_poll_at=run.now)
    run.dispatch_poll(stage)


def note_wake_up(run: LockedRun, stage: StageRow) -> None:
    """Remember a wake-up until the body or poll that is under way ends."""
    _change(run, stage, wake_sequence=stage.wake_sequence + 1)


def ask_for_last_poll(run: LockedRun, stage: StageRow) -> None:
    """Make the last poll of a suspension due at once, before all other work."""
    _change(run, stage, next_poll_at=run.now, final_poll_at=run.now)
    run.dispatch(stage, priority=RECOVERY_PRIORITY)


def replace_state(run: LockedRun, stage: StageRow, state: str) -> None:
    """Replace the state of a suspension, of which ``on_cancel`` is told."""
    _change(run, stage, suspended_state=state)


def owe_cleanup(run: LockedRun, stage: StageRow, state: str, on: str) -> None:
    """Owe a cancelled stage run its ``on_cancel``, for what its body came to wait for after it was cancelled."""
    _change(run, stage, suspended_state=state, suspended_on=on, cleanup_due_at=run.now)
    run.dispatch(stage)


def _change(run: LockedRun, stage: StageRow, **columns: Any) -> None:
    run.tx.execute(update(stages).where(stages.c.id == stage.id).values(**columns))
