"""Renewing leases, and finding those that ran out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, select, tuple_, update

from workflow_engine.store.records import Lease
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import attempts, stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from workflow_engine.store.connection.database import Database


#: A renewal must be over, and made again on another connection if need be, before its lease runs out; but a database
#: under load is given this long.
_SHORTEST_LIMIT = timedelta(seconds=2)


def renew_leases(database: Database, leases: Sequence[Lease], lease_ms: int) -> set[Lease]:
    """Give the leases another period from the database's present time; return those that are still held.

    It never waits for a row while it holds another: a command that locks several stage runs of a run would deadlock
    with it. What somebody else has locked is left out first, and then waited for alone.
    """
    if len(leases) == 1:
        return _renew(database, leases, lease_ms)
    kept = _renew(database, leases, lease_ms, skip_locked=True)
    for lease in leases:
        if lease not in kept:
            kept |= _renew(database, [lease], lease_ms)
    return kept


def _renew(database: Database, leases: Sequence[Lease], lease_ms: int, *, skip_locked: bool = False) -> set[Lease]:
    held = and_(
        tuple_(stages.c.id, stages.c.fence).in_([(lease.stage_run_id, lease.fence) for lease in leases]),
        stages.c.lease_id.is_not(None),
    )
    free = select(stages.c.id).where(held).with_for_update(skip_locked=True)
    statement = (
        update(stages)
        .where(held, *([stages.c.id.in_(free)] if skip_locked else []))
        .values(lease_until=now() + lease_ms)
        .returning(stages.c.id, stages.c.fence)
    )
    limit = max(timedelta(milliseconds=lease_ms) / 3, _SHORTEST_LIMIT)
    return database.execute_one(
        lambda tx: {Lease(row.id, row.fence) for row in tx.execute(statement)}, limits=database.limits.within(limit)
    )


def is_held(database: Database, lease: Lease) -> bool:
    """Whether the lease is still that of its claimant."""
    query = select(stages.c.id).where(
        stages.c.id == lease.stage_run_id, stages.c.fence == lease.fence, stages.c.lease_id.is_not(None)
    )
    return database.read(lambda tx: tx.scalar(query)) is not None


def leases_of(tx: Connection, worker_id_prefix: str) -> list[Lease]:
    """Return the open leases of the workers whose id starts with the prefix."""
    query = (
        select(attempts.c.stage_run_id, attempts.c.fence)
        .where(attempts.c.outcome.is_(None), attempts.c.worker_id.startswith(worker_id_prefix, autoescape=True))
        .order_by(attempts.c.started_at)
    )
    return [Lease(row.stage_run_id, row.fence) for row in tx.execute(query)]


def expired_leases(tx: Connection, limit: int) -> list[Lease]:
    """Return leases that ran out, the longest expired first."""
    query = (
        select(stages.c.id, stages.c.fence)
        .where(stages.c.lease_id.is_not(None), stages.c.lease_until < now())
        .order_by(stages.c.lease_until)
        .limit(limit)
    )
    return [Lease(row.id, row.fence) for row in tx.execute(query)]
