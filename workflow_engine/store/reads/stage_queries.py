"""Reading the stage runs of a run: their state, their attempts, their outputs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from workflow_engine.definition import StoredOutput
from workflow_engine.events import read_name
from workflow_engine.lifecycle import StageStatus
from workflow_engine.payloads.text import decode_json
from workflow_engine.store.reads.lineage import lineage
from workflow_engine.store.reads.snapshots import (
    AttemptSnapshot,
    ErrorInfo,
    StageSnapshot,
    Suspension,
    from_row,
    nanos_to_cost,
)
from workflow_engine.store.records import AttemptOutcome, ClaimKind
from workflow_engine.store.schema.tables import attempts, outputs, stages

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, RowMapping


def list_stages(tx: Connection, run_id: str, *, history: bool = False) -> list[StageSnapshot]:
    """Read the stage runs of a run in the order of the workflow; with ``history`` those of earlier generations too."""
    query = select(stages).where(stages.c.run_id == run_id).order_by(stages.c.stage_number, stages.c.generation)
    if not history:
        query = query.where(stages.c.superseded_by.is_(None))
    return [_stage_snapshot(row) for row in tx.execute(query).mappings()]


def find_stage_run(tx: Connection, stage_run_id: str) -> StageSnapshot | None:
    """Read one stage run, live or not."""
    row = tx.execute(select(stages).where(stages.c.id == stage_run_id)).mappings().first()
    return _stage_snapshot(row) if row else None


def list_attempts(tx: Connection, run_id: str, stage_id: str, *, history: bool = False) -> list[AttemptSnapshot]:
    """Read the claims of a stage of a run, the oldest first; with ``history`` those of earlier generations, too."""
    members = lineage(run_id, history=history)
    query = (
        select(attempts)
        .join(members, members.c.origin == attempts.c.stage_run_id)
        .where(members.c.stage_id == stage_id)
        .order_by(members.c.generation, attempts.c.fence)
    )
    return [_attempt_snapshot(row) for row in tx.execute(query).mappings()]


def find_output(tx: Connection, run_id: str, stage_id: str) -> StoredOutput | None:
    """Read what is recorded of the live stage run of a stage: its status, and its output if it is COMPLETED."""
    query = (
        select(stages.c.status, outputs.c.payload, stages.c.execution_group)
        .join(outputs, outputs.c.id == stages.c.output_id, isouter=True)
        .where(stages.c.run_id == run_id, stages.c.stage_id == stage_id, stages.c.superseded_by.is_(None))
    )
    row = tx.execute(query).first()
    return StoredOutput(StageStatus(row.status), row.payload, row.execution_group) if row else None


def _stage_snapshot(row: RowMapping) -> StageSnapshot:
    return from_row(
        StageSnapshot,
        row,
        is_live=row["superseded_by"] is None,
        status=StageStatus(row["status"]),
        suspension=_suspension(row),
        cost=nanos_to_cost(row["cost_nanos"]),
        metrics=decode_json(row["metrics"]),
        error=_error(row),
    )


def _suspension(row: RowMapping) -> Suspension | None:
    if row["suspended_on"] is None:
        return None
    interval = row["poll_interval_ms"]
    return from_row(
        Suspension,
        row,
        on=row["suspended_on"],
        state=decode_json(row["suspended_state"] or "null"),
        metadata=decode_json(row["suspended_metadata"] or "null"),
        poll_interval=None if interval is None else timedelta(milliseconds=interval),
    )


def _attempt_snapshot(row: RowMapping) -> AttemptSnapshot:
    return from_row(
        AttemptSnapshot,
        row,
        kind=read_name(ClaimKind, row["kind"]),
        outcome=None if row["outcome"] is None else read_name(AttemptOutcome, row["outcome"]),
        cost=nanos_to_cost(row["cost_nanos"] or 0),
        tokens=row["tokens"] or 0,
        error=_error(row),
    )


def _error(row: RowMapping) -> ErrorInfo | None:
    if row["error_code"] is None:
        return None
    return ErrorInfo(row["error_code"], row["error_type"], row["error_message"] or "", row["error_traceback"])
