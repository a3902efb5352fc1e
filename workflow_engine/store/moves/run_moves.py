"""The arrows of a run: one function for each entry of ``RunMove``, and no other writer of a run's status.

Each changes the columns and appends the event. The run is locked, so a move that its status does not allow is a bug.
PostgreSQL starts and completes runs in its statements for a claim and a completion too (``postgres``), which do the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.errors import StoreError
from workflow_engine.events import EventType
from workflow_engine.lifecycle import RunMove

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.lifecycle import Move, RunStatus
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import StageFailure


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """What a rerun starts with."""

    plan: str
    #: The group whose outputs are the input of the one that it starts at.
    input_group: int
    deadline_in_ms: int | None
    #: What the event tells; it is looked up when the request comes again.
    told: Mapping[str, Any]


def start(run: LockedRun) -> None:
    """PENDING -> RUNNING: its first stage run is claimed."""
    _move(run, RunMove.START, started_at=run.now)
    run.record(EventType.RUN_STARTED)


def complete(run: LockedRun, output_group: int) -> None:
    """RUNNING -> COMPLETED: its last group ended well; the outputs of ``output_group`` are its output."""
    _move(run, RunMove.COMPLETE, output_group=output_group)
    run.record(EventType.RUN_COMPLETED)


def fail(run: LockedRun, failure: StageFailure | None = None) -> None:
    """PENDING | RUNNING -> FAILED: a stage failed for good, or the run passed the limit that ``failure`` tells."""
    cause = {} if failure is None else {"error_code": failure.code.value, "error_message": failure.message}
    _move(run, RunMove.FAIL, **cause)
    run.record(EventType.RUN_FAILED, **(run.cause() if failure is None else failure.event))


def cancel(run: LockedRun, reason: str | None) -> None:
    """PENDING | RUNNING -> CANCELLED: somebody cancelled it."""
    _move(run, RunMove.CANCEL)
    run.record(EventType.RUN_CANCELLED, **({"reason": reason} if reason else {}))


def rerun(run: LockedRun, new: NewGeneration) -> None:
    """COMPLETED | FAILED | CANCELLED -> RUNNING: a new generation starts at an earlier group; a pause is lifted."""
    _move(
        run,
        RunMove.RERUN,
        generation=run.generation + 1,
        input_group=new.input_group,
        output_group=None,
        error_code=None,
        error_message=None,
        failed_stage_run_id=None,
        started_at=None,
        deadline_at=None if new.deadline_in_ms is None else run.now + new.deadline_in_ms,
        paused_at=None,
        plan=new.plan,
    )
    run.record(EventType.RUN_RERUN, **new.told)


def _move(run: LockedRun, move: Move[RunStatus], **columns: Any) -> None:
    if run.status not in move.sources:
        raise StoreError(f"Run {run.id} is {run.status}; the move {move.name} is not allowed")
    run.change(status=move.target, completed_at=run.now if move.target.is_terminal else None, **columns)
