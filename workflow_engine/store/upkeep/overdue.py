"""What the sweep looks for besides lost messages and expired leases. Each query is answered by a partial index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, exists, or_, select, update

from workflow_engine.definition.waits import Runs
from workflow_engine.lifecycle import LIVE_RUN, RunStatus, StageStatus
from workflow_engine.store.connection.inserts import insert_or_ignore
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import runs, stages, ticks

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_LIVE = [status.value for status in LIVE_RUN]


def expired_suspensions(tx: Connection, limit: int, *, grace_ms: int) -> list[str]:
    """Return suspended stage runs past their ``max_wait`` whose last poll was not asked for, or was not taken in time.

    A poll that is under way ends by itself.
    """
    query = select(stages.c.id).where(
        stages.c.status == StageStatus.SUSPENDED.value,
        stages.c.max_wait_until < now(),
        stages.c.superseded_by.is_(None),
        stages.c.lease_id.is_(None),
        or_(stages.c.final_poll_at.is_(None), stages.c.final_poll_at < now() - grace_ms),
    )
    return list(tx.scalars(query.order_by(stages.c.max_wait_until).limit(limit)))


def expired_in_queue(tx: Connection, limit: int) -> list[str]:
    """Return stage runs that waited for their first claim longer than their ``queue_timeout``."""
    query = select(stages.c.id).where(
        stages.c.status == StageStatus.PENDING.value,
        stages.c.queue_timeout_at < now(),
        stages.c.fence == 0,  # it was never claimed; one that was given back waits for its next attempt
        stages.c.superseded_by.is_(None),
    )
    return list(tx.scalars(query.order_by(stages.c.queue_timeout_at).limit(limit)))


def overdue_runs(tx: Connection, limit: int) -> list[str]:
    """Return live runs past their deadline."""
    query = select(runs.c.id).where(runs.c.status.in_(_LIVE), runs.c.deadline_at < now())
    return list(tx.scalars(query.order_by(runs.c.deadline_at).limit(limit)))


def orphaned_children(tx: Connection, limit: int) -> list[str]:
    """Return live runs whose parent was cancelled, or that were waited for by a stage run that ended badly.

    One that somebody reran after that is on its own.
    """
    parents = runs.alias("parents")
    was_cancelled = and_(parents.c.status == RunStatus.CANCELLED.value, _was_there(parents.c.completed_at))
    gave_up = and_(
        stages.c.suspended_on == Runs.kind,
        stages.c.status.in_([StageStatus.CANCELLED.value, StageStatus.FAILED.value]),
        _was_there(stages.c.completed_at),
    )
    query = (
        select(runs.c.id)
        .join(parents, parents.c.id == runs.c.parent_run_id)
        .join(stages, stages.c.id == runs.c.parent_stage_run_id, isouter=True)
        .where(
            runs.c.status.in_(_LIVE),
            runs.c.parent_run_id.is_not(None),
            or_(was_cancelled, gave_up),
        )
    )
    return list(tx.scalars(query.limit(limit)))


def _was_there(instant: ColumnElement[int | None]) -> ColumnElement[bool]:
    """Whether the run's present generation had begun by then; the first one counts as begun."""
    own = stages.alias("own")
    begun = exists().where(
        own.c.run_id == runs.c.id, own.c.generation == runs.c.generation, own.c.created_at <= instant
    )
    return or_(runs.c.generation == 0, begun)


def begin_tick(tx: Connection, name: str, *, interval_ms: int, lease_ms: int) -> int | None:
    """Take this round of the tick; None when another was less than half an interval ago.

    Returns from when on leases may be reaped and time limits enforced. After a gap of more than three intervals, when
    the sweeper or the database was away, that is one lease from now, so that live workers renew first, write what they
    finished, and take what was due; such a grace is not granted again before a tick has run after the last one ended,
    because habitually slow ticks would starve the reaper.

    What was noted before the database's clock was put back must not hold up the sweep until it is that late again.
    """
    row = tx.execute(select(ticks).where(ticks.c.name == name).with_for_update()).first()
    present = int(tx.scalar(select(now())) or 0)  # after the lock: what was noted meanwhile is not in the future
    if row is None:
        first = insert_or_ignore(tx, ticks).values(name=name, last_at=present, reap_after=0)
        return 0 if tx.execute(first).rowcount == 1 else None
    if abs(present - row.last_at) < interval_ms // 2:
        return None
    was_away = present - row.last_at > 3 * interval_ms and row.last_at >= row.reap_after
    reap_after = present + lease_ms if was_away else min(row.reap_after, present + lease_ms)
    tx.execute(update(ticks).where(ticks.c.name == name).values(last_at=present, reap_after=reap_after))
    return int(reap_after)


def last_tick(tx: Connection, name: str) -> int | None:
    """Return when the tick last ran, or None."""
    return tx.scalar(select(ticks.c.last_at).where(ticks.c.name == name))
