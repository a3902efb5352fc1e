"""What ``doctor`` asks of the records. Everything here only reads, and counts rather than lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from workflow_engine.errors import ErrorCode
from workflow_engine.lifecycle import ACTIVE_STAGE, LIVE_RUN
from workflow_engine.store.moves.admission import due_at, may_be_taken
from workflow_engine.store.records import AttemptOutcome
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import attempts, runs, stages

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

_is_active = stages.c.status.in_([status.value for status in ACTIVE_STAGE])


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
        select(stages.c.queue, stages.c.dispatch_priority, func.count(), func.max(now() - due_at(stages)))
        .where(may_be_taken(now()))
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


def read_queues_of(tx: Connection, workflow_ids: Collection[str]) -> dict[str, set[str]]:
    """Return the queues that live runs of each of the workflows have work for."""
    query = (
        select(runs.c.workflow_id, stages.c.queue)
        .join(stages, stages.c.run_id == runs.c.id)
        .where(runs.c.workflow_id.in_(workflow_ids), stages.c.superseded_by.is_(None), _is_active)
        .distinct()
    )
    found: dict[str, set[str]] = {}
    for row in tx.execute(query):
        found.setdefault(row.workflow_id, set()).add(row.queue)
    return found


def read_strangers(tx: Connection, workflow_id: str, limit: int) -> list[str]:
    """Return workers that gave back live work of a workflow because they do not know it."""
    query = (
        select(attempts.c.worker_id)
        .join(stages, stages.c.id == attempts.c.stage_run_id)
        .join(runs, runs.c.id == stages.c.run_id)
        .where(
            runs.c.workflow_id == workflow_id,
            stages.c.mismatch_since.is_not(None),
            _is_active,
            attempts.c.outcome == AttemptOutcome.RELEASED.value,
            attempts.c.error_code == ErrorCode.DEFINITION_MISMATCH.value,
        )
        .distinct()
        .order_by(attempts.c.worker_id)
        .limit(limit)
    )
    return list(tx.scalars(query))


def read_live_plans(tx: Connection) -> list[LivePlan]:
    """Return the plans that live runs follow."""
    query = (
        select(runs.c.workflow_id, runs.c.plan, func.count(), func.min(runs.c.id))
        .where(runs.c.status.in_([status.value for status in LIVE_RUN]))
        .group_by(runs.c.workflow_id, runs.c.plan)
        .order_by(runs.c.workflow_id)
    )
    return [LivePlan(*row) for row in tx.execute(query)]
