"""Sending for, taking and closing the clean-up that a cancelled stage run is owed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, or_, select, update

from workflow_engine.store.moves.claims import read_claim
from workflow_engine.store.records import Hint
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import stages
from workflow_engine.store.upkeep.due import spacing

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


@dataclass(frozen=True, slots=True)
class OwedCleanup:
    """A clean-up that this worker has taken."""

    claim: Claim
    #: Which try this is, from 1 on.
    attempts: int
    #: For how long workers have been giving it back because they do not know the stage.
    passed_on_for_ms: int


def claim_cleanup(tx: Connection, stage_run_id: str, hold_ms: int) -> OwedCleanup | None:
    """Take the clean-up for ``hold_ms`` if it is due; None if it is not."""
    taken = tx.execute(
        update(stages)
        .where(stages.c.id == stage_run_id, stages.c.cleanup_due_at <= now())
        .values(cleanup_due_at=now() + hold_ms, cleanup_attempts=stages.c.cleanup_attempts + 1)
        .returning(stages.c.cleanup_attempts, stages.c.mismatch_since, stages.c.completed_at, now().label("present"))
    ).first()
    claim = read_claim(tx, stage_run_id) if taken is not None else None
    if claim is None or taken is None:
        return None
    # What workers gave back while the stage was live does not count.
    since = taken.mismatch_since if (taken.mismatch_since or 0) >= (taken.completed_at or 0) else None
    return OwedCleanup(claim, int(taken.cleanup_attempts), int(taken.present - (since or taken.present)))


def pass_on_cleanup(tx: Connection, stage_run_id: str, *, delay_ms: int, passed_on_for_ms: int) -> None:
    """Leave the clean-up to a worker that knows the stage, after ``delay_ms``; this try does not count."""
    tx.execute(
        update(stages)
        .where(stages.c.id == stage_run_id)
        .values(
            cleanup_due_at=now() + delay_ms,
            cleanup_attempts=stages.c.cleanup_attempts - 1,
            mismatch_since=now() - passed_on_for_ms,
        )
    )


def close_cleanup(tx: Connection, stage_run_id: str, delay_ms: int | None) -> None:
    """Mark the clean-up done (None), or due again after ``delay_ms``."""
    due = None if delay_ms is None else now() + delay_ms
    tx.execute(update(stages).where(stages.c.id == stage_run_id).values(cleanup_due_at=due))
