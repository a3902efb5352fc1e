"""Reading runs. Functions take a transaction and return snapshots; rows stay here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, case, exists, func, or_, select

from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.payloads.text import decode_json
from workflow_engine.store.reads.conditions import equal_to, within
from workflow_engine.store.reads.run_metadata import has_metadata
from workflow_engine.store.reads.snapshots import Page, RolledUpCost, RunSnapshot, from_row, nanos_to_cost
from workflow_engine.store.schema.tables import controls, runs, stages

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection, RowMapping
    from sqlalchemy.sql import Select

#: Runs that are read at once where all are wanted.
MAX_PAGE = 500

_live_stages = and_(stages.c.run_id == runs.c.id, stages.c.superseded_by.is_(None))
_is_parked = exists().where(_live_stages, stages.c.status == StageStatus.SUSPENDED.value)
_is_busy = exists().where(_live_stages, stages.c.status.in_([StageStatus.PENDING.value, StageStatus.RUNNING.value]))
_is_suspended = and_(runs.c.status == RunStatus.RUNNING.value, _is_parked, ~_is_busy)
_failed_stage = stages.alias("failed_stage")


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; a field that is not given does not restrict them."""

    statuses: Collection[RunStatus] = ()
    workflow_id: str | None = None
    #: Top-level scalars that the run's metadata holds.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    completed_after: datetime | None = None
    parent_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunTexts:
    """The payloads that a run was created with, as JSON text."""

    input: str
    config: str


def find_run(tx: Connection, run_id: str) -> RunSnapshot | None:
    """Read one run."""
    row = tx.execute(_select_runs().where(runs.c.id == run_id)).mappings().first()
    return _run_snapshot(row) if row else None


def find_run_status(tx: Connection, run_id: str) -> RunStatus | None:
    """Read the stored status of a run (never SUSPENDED): the cheapest question that tells whether it ended."""
    status = tx.scalar(select(runs.c.status).where(runs.c.id == run_id))
    return None if status is None else RunStatus(status)


def list_runs(tx: Connection, wanted: RunFilter, *, limit: int = 50, cursor: str | None = None) -> Page[RunSnapshot]:
    """Read a page of runs, the newest first.

    Raises:
        InvalidRequestError: A metadata value cannot be searched for.
    """
    query = _select_runs().where(*_conditions(wanted)).order_by(runs.c.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(runs.c.id < cursor)
    found = [_run_snapshot(row) for row in tx.execute(query).mappings()]
    return Page.of(found, limit, lambda run: run.id)


def rolled_up_cost(tx: Connection, run_id: str) -> RolledUpCost:
    """Add up what a run and all runs that it started, at any depth, have cost in every generation and attempt."""
    tree = select(runs.c.id).where(runs.c.id == run_id).cte("tree", recursive=True)
    tree = tree.union_all(select(runs.c.id).join(tree, runs.c.parent_run_id == tree.c.id))
    sums = select(
        func.coalesce(func.sum(stages.c.cost_nanos), 0),
        func.coalesce(func.sum(stages.c.tokens), 0),
        func.count(stages.c.run_id.distinct()),
    ).where(stages.c.run_id.in_(select(tree.c.id)))
    nanos, tokens, counted = tx.execute(sums).one()
    return RolledUpCost(nanos_to_cost(int(nanos)), int(tokens), int(counted))


def find_run_texts(tx: Connection, run_id: str) -> RunTexts | None:
    """Read the payloads of a run."""
    row = tx.execute(select(runs.c.input, runs.c.config).where(runs.c.id == run_id)).first()
    return RunTexts(row.input, row.config) if row else None


def _select_runs() -> Select[Any]:
    own = select(func.sum(stages.c.cost_nanos)).where(stages.c.run_id == runs.c.id)
    tokens = select(func.sum(stages.c.tokens)).where(stages.c.run_id == runs.c.id)
    left_out = {"plan", "input", "config"}
    return select(
        *(column for column in runs.c if column.name not in left_out),
        case((_is_suspended, RunStatus.SUSPENDED.value), else_=runs.c.status).label("shown_status"),
        func.coalesce(own.scalar_subquery(), 0).label("cost_nanos"),
        func.coalesce(tokens.scalar_subquery(), 0).label("tokens"),
        exists().where(controls.c.workflow_id == runs.c.workflow_id).label("workflow_paused"),
        _failed_stage.c.stage_id.label("failed_stage_id"),
    ).join(_failed_stage, _failed_stage.c.id == runs.c.failed_stage_run_id, isouter=True)


def _conditions(wanted: RunFilter) -> list[ColumnElement[bool]]:
    conditions = [has_metadata(key, value) for key, value in wanted.metadata.items()]
    if wanted.statuses:
        conditions.append(or_(*(_has_status(status) for status in wanted.statuses)))
    conditions += equal_to(runs, wanted, "workflow_id", "parent_run_id")
    conditions += within(runs.c.created_at, wanted.created_after, wanted.created_before)
    conditions += within(runs.c.completed_at, wanted.completed_after)
    return conditions


def _has_status(status: RunStatus) -> ColumnElement[bool]:
    """Tell apart what is stored as RUNNING: suspended, or really running."""
    if status is RunStatus.SUSPENDED:
        return _is_suspended
    if status is RunStatus.RUNNING:
        return and_(runs.c.status == status.value, or_(_is_busy, ~_is_parked))
    return runs.c.status == status.value


def _run_snapshot(row: RowMapping) -> RunSnapshot:
    return from_row(
        RunSnapshot,
        row,
        status=RunStatus(row["shown_status"]),
        paused=row["paused_at"] is not None,
        workflow_paused=bool(row["workflow_paused"]),
        metadata=decode_json(row["metadata"]),
        total_cost=nanos_to_cost(int(row["cost_nanos"])),
        total_tokens=int(row["tokens"]),
    )
