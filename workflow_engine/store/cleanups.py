"""Taking and closing the clean-up that a cancelled stage run is owed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import update

from workflow_engine.store.claims import read_claim
from workflow_engine.store.moves import now
from workflow_engine.store.tables import stages

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from workflow_engine.store.records import Claim


def claim_cleanup(tx: Connection, stage_run_id: str, hold_ms: int) -> tuple[Claim, int] | None:
    """Take the clean-up for ``hold_ms`` if it is due; return what it needs and which try this is, else None."""
    attempts = tx.scalar(
        update(stages)
        .where(stages.c.id == stage_run_id, stages.c.cleanup_due_at <= now())
        .values(cleanup_due_at=now() + hold_ms, cleanup_attempts=stages.c.cleanup_attempts + 1)
        .returning(stages.c.cleanup_attempts)
    )
    claim = read_claim(tx, stage_run_id) if attempts is not None else None
    return None if claim is None else (claim, int(attempts or 0))


def close_cleanup(tx: Connection, stage_run_id: str, delay_ms: int | None) -> None:
    """Mark the clean-up done (None), or due again after ``delay_ms``."""
    due = None if delay_ms is None else now() + delay_ms
    tx.execute(update(stages).where(stages.c.id == stage_run_id).values(cleanup_due_at=due))
