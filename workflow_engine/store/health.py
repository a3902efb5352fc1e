"""What ``doctor`` asks of the records. Everything here only reads, and counts rather than lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from workflow_engine.lifecycle import LIVE_RUN
from workflow_engine.store.due import due_at, may_run, waits
from workflow_engine.store.moves import now
from workflow_engine.store.tables import runs, stages

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is due in one list of the broker, by the records."""

    queue: str
    priority: int
    count: int
    #: How long the oldest has been due, in milliseconds.
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class LivePlan:
    """A plan that live runs follow."""

    workflow_id: str
    plan: str
    runs: int
    example: str


def refuses_writes(tx: Connection) -> bool:
    """Whether transactions are read-only: on a standby, or because somebody said so."""
    return tx.dialect.name == "postgresql" and tx.scalar(text("SHOW transaction_read_only")) == "on"


def read_backlog(tx: Connection) -> list[Backlog]:
    """Return what is due and waits for a worker, list by list, the largest first."""
    query = (
        select(stages.c.queue, stages.c.dispatch_priority, func.count(), func.max(now() - due_at))
        .where(waits, due_at <= now(), may_run)
        .group_by(stages.c.queue, stages.c.dispatch_priority)
        .order_by(func.count().desc(), stages.c.queue, stages.c.dispatch_priority)
    )
    return [Backlog(*row) for row in tx.execute(query)]


def read_claims_since(tx: Connection, age_ms: int) -> dict[str, int]:
    """Return how many claims there were in each queue in the last ``age_ms``."""
    query = (
        select(stages.c.queue, func.count().label("claims"))
        .where(stages.c.claimed_at > now() - age_ms, stages.c.claimed_dispatch_at.is_not(None))
        .group_by(stages.c.queue)
    )
    return {row.queue: int(row.claims) for row in tx.execute(query)}


def count_expired_leases(tx: Connection, age_ms: int) -> int:
    """Return how many leases ran out more than ``age_ms`` ago and were not taken back."""
    expired = select(func.count()).where(stages.c.lease_id.is_not(None), stages.c.lease_until < now() - age_ms)
    return int(tx.scalar(expired) or 0)


def has_more_runs_than(tx: Connection, count: int) -> bool:
    """Whether there are more runs than ``count``, ended ones included; reads no more rows than that."""
    first = select(runs.c.id).limit(count + 1).subquery()
    return int(tx.scalar(select(func.count()).select_from(first)) or 0) > count


def read_live_plans(tx: Connection) -> list[LivePlan]:
    """Return the plans that live runs follow."""
    query = (
        select(runs.c.workflow_id, runs.c.plan, func.count(), func.min(runs.c.id))
        .where(runs.c.status.in_([status.value for status in LIVE_RUN]))
        .group_by(runs.c.workflow_id, runs.c.plan)
        .order_by(runs.c.workflow_id)
    )
    return [LivePlan(*row) for row in tx.execute(query)]
