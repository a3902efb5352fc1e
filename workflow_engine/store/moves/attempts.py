"""Attempt records: opened by a claim, closed by its outcome, and the oracle for commits whose answer was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from workflow_engine.events import EventType
from workflow_engine.store.records import NOTHING_REPORTED, AttemptOutcome, ClaimKind
from workflow_engine.store.schema.tables import attempts

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import ClaimRequest, Lease, Report, StageFailure, StageRow

_TAKEN_AWAY = {AttemptOutcome.LOST.value, AttemptOutcome.CANCELLED.value, AttemptOutcome.RELEASED.value}
#: Recorded of a callback in place of a worker.
_CALLER = "outside"


@dataclass(frozen=True, slots=True)
class Callback:
    """Code outside of the stage tells its outcome."""

    #: Fresh for each call; the same when the call is repeated.
    nonce: str


def open_attempt(run: LockedRun, stage: StageRow, request: ClaimRequest, kind: ClaimKind, attempt: int) -> None:
    """Record the claim that takes the stage run, under the fence that it gets."""
    _insert(run, stage, kind, attempt=attempt, lease_id=request.nonce, worker_id=request.worker_id)


def close_attempt(
    run: LockedRun,
    stage: StageRow,
    outcome: AttemptOutcome,
    failure: StageFailure | None = None,
    report: Report = NOTHING_REPORTED,
) -> None:
    """Record how the claim that holds the stage run ended, and what it cost, unless that is recorded already."""
    error = failure.columns if failure else {}
    cost = {"cost_nanos": report.cost_nanos, "tokens": report.tokens} if report.has_cost else {}
    is_open = (attempts.c.stage_run_id == stage.id, attempts.c.fence == stage.fence, attempts.c.outcome.is_(None))
    run.tx.execute(update(attempts).where(*is_open).values(outcome=outcome.value, ended_at=run.now, **error, **cost))


def record_loss(run: LockedRun, stage: StageRow) -> None:
    """Record that the worker which holds the stage run was lost; a move of the stage run follows."""
    close_attempt(run, stage, AttemptOutcome.LOST)
    run.record(EventType.STAGE_LOST, stage.stage_id, attempt=stage.attempt, worker_id=stage.worker_id)


def insert_callback(
    run: LockedRun, stage: StageRow, outcome: AttemptOutcome, callback: Callback, failure: StageFailure | None
) -> None:
    """Record that a callback told the outcome: an attempt of no length, with the next fence."""
    error = failure.columns if failure else {}
    ended = {"ended_at": run.now, "outcome": outcome.value, **error}
    _insert(run, stage, ClaimKind.CALLBACK, attempt=stage.attempt, lease_id=callback.nonce, worker_id=_CALLER, **ended)


def _insert(run: LockedRun, stage: StageRow, kind: ClaimKind, **columns: Any) -> None:
    key = {"stage_run_id": stage.id, "fence": stage.fence + 1}
    run.tx.execute(attempts.insert().values(**key, kind=kind.value, started_at=run.now, **columns))


def was_accepted(tx: Connection, lease: Lease) -> bool:
    """Whether the claimant's own outcome is on record, so that repeating the write was merely late."""
    outcome = tx.scalar(
        select(attempts.c.outcome).where(attempts.c.stage_run_id == lease.stage_run_id, attempts.c.fence == lease.fence)
    )
    return outcome is not None and outcome not in _TAKEN_AWAY


def first_release(tx: Connection, stage_run_id: str, error_type: str, since: int) -> int | None:
    """Return when, from ``since`` on, a claim of the stage run was first given back for that reason."""
    query = select(func.min(attempts.c.ended_at)).where(
        attempts.c.stage_run_id == stage_run_id,
        attempts.c.outcome == AttemptOutcome.RELEASED.value,
        attempts.c.error_type == error_type,
        attempts.c.ended_at >= since,
    )
    found: int | None = tx.scalar(query)
    return found


def has_callback(tx: Connection, stage_run_id: str, nonce: str) -> bool:
    """Tell whether the outcome of the stage run is that of the callback with this ``nonce``."""
    query = select(attempts.c.fence).where(attempts.c.stage_run_id == stage_run_id, attempts.c.lease_id == nonce)
    return tx.scalar(query) is not None
