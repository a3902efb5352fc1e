"""What an attempt leaves beside its outcome: cost, log lines and annotations, written in the outcome's transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from workflow_engine.ids import new_id
from workflow_engine.store.connection.inserts import insert_or_ignore
from workflow_engine.store.schema.tables import attempts, logs, run_annotations, stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from workflow_engine.store.records import Claim, LogLine, Report


def report_columns(report: Report) -> dict[str, Any]:
    """Return the changes of the stage run's own columns that the report stands for."""
    values: dict[str, Any] = {}
    if report.cost_nanos:
        values["cost_nanos"] = stages.c.cost_nanos + report.cost_nanos
    if report.tokens:
        values["tokens"] = stages.c.tokens + report.tokens
    if report.metrics is not None:
        values["metrics"] = report.metrics
    return values


def keep_report(tx: Connection, claim: Claim, report: Report, instant: int) -> None:
    """Insert what an accepted attempt leaves in tables of its own: log lines and annotations."""
    write_log_lines(tx, claim, report.logs)
    _write_annotations(tx, claim, report, instant)


def keep_report_of_refused(tx: Connection, claim: Claim, report: Report) -> None:
    """Keep what holds of an attempt whatever became of its result: money is spent, once, and lines were written."""
    if report.has_cost:
        is_new = (attempts.c.cost_nanos.is_(None), attempts.c.tokens.is_(None))
        noted = tx.execute(
            update(attempts)
            .where(attempts.c.stage_run_id == claim.stage_run_id, attempts.c.fence == claim.fence, *is_new)
            .values(cost_nanos=report.cost_nanos, tokens=report.tokens)
        )
        if noted.rowcount == 1:
            sums = report_columns(replace(report, metrics=None))
            tx.execute(update(stages).where(stages.c.id == claim.stage_run_id).values(**sums))
    write_log_lines(tx, claim, report.logs)


def write_log_lines(tx: Connection, claim: Claim, lines: Sequence[LogLine]) -> None:
    """Insert log lines of an attempt; a line that is there already stays, so the call may be repeated."""
    if not lines:
        return
    origin = {
        "stage_run_id": claim.stage_run_id,
        "fence": claim.fence,
        "run_id": claim.run_id,
        "stage_id": claim.stage_id,
        "attempt": claim.attempt,
    }
    tx.execute(
        insert_or_ignore(tx, logs),
        [
            {
                **origin,
                "line": line.line,
                "level": line.level,
                "message": line.message,
                "fields": line.fields,
                "created_at": line.created_at,
            }
            for line in lines
        ],
    )


def flush_log_lines(tx: Connection, claim: Claim, lines: Sequence[LogLine]) -> None:
    """Insert log lines of an attempt that is under way; nothing where its run was cancelled, and deleted since."""
    is_there = select(stages.c.id).where(stages.c.id == claim.stage_run_id)
    if tx.scalar(is_there.with_for_update(read=True, key_share=True)) is not None:
        write_log_lines(tx, claim, lines)


def _write_annotations(tx: Connection, claim: Claim, report: Report, instant: int) -> None:
    """Insert the annotations that a stage left."""
    if report.annotations:
        tx.execute(
            run_annotations.insert(),
            [
                {
                    "id": new_id(),
                    "run_id": claim.run_id,
                    "key": annotation.key,
                    "value": annotation.value,
                    "actor": "stage",
                    "stage_id": claim.stage_id,
                    "attempt": claim.attempt,
                    "generation": claim.generation,
                    "created_at": instant,
                }
                for annotation in report.annotations
            ],
        )
