"""Sending for, taking and closing the clean-up that a cancelled stage run is owed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, or_, select, update

from workflow_engine.store.claims import read_claim
from workflow_engine.store.due import spacing
from workflow_engine.store.moves import now
from workflow_engine.store.records import Hint
from workflow_engine.store.tables import stages

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from workflow_engine.store.records import Claim


_HINT_COLUMNS = ("id", "dispatch_number", "run_id", "stage_id", "queue", "priority")


def dispatch_cleanups(tx: Connection, *, slack_ms: int, limit: int) -> list[Hint]:
    """Give due clean-ups that have no recent message a new one; return what to send.

    Messages for one clean-up are sent with growing waits: a queue that nobody reads must not fill, nor keep others
    from their turn.
    """
    is_new = stages.c.dispatched_at < stages.c.cleanup_due_at
    is_due = stages.c.cleanup_due_at <= now()
    batch = (
        select(stages.c.id)
        .where(is_due, or_(is_new, stages.c.dispatched_at < now() - spacing(slack_ms)))
        .order_by(stages.c.cleanup_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("batch")
    )
    rows = tx.execute(
        update(stages)
        .where(stages.c.id.in_(select(batch.c.id)), is_due)
        .values(
            dispatched_at=now(),
            dispatch_number=stages.c.dispatch_number + 1,
            redispatches=case((is_new, 0), else_=stages.c.redispatches + 1),
        )
        .returning(*(stages.c[name] for name in _HINT_COLUMNS))
    )
    return [Hint(*row) for row in rows]


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
