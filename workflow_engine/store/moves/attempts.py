"""Reading attempt records: the oracle for commits whose answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from workflow_engine.store.records import AttemptOutcome
from workflow_engine.store.schema.tables import attempts

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from workflow_engine.store.records import Lease

_TAKEN_AWAY = {AttemptOutcome.LOST.value, AttemptOutcome.CANCELLED.value, AttemptOutcome.RELEASED.value}


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
