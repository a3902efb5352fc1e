"""New runs and stage runs: rows that begin a run or a group, and the ended ones that a fork shares."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import select

from workflow_engine.definition import StageRunOptions
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.connection.inserts import insert_or_ignore
from workflow_engine.store.moves.locked_run import RUN_COLUMNS, LockedRun
from workflow_engine.store.records import Hint
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import runs, stages

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.engine import Connection

    from workflow_engine.store.records import NewRun, NewStageRun

#: What a fork takes over of the stage runs whose outputs it shares.
_SHARED_COLUMNS = (
    "stage_id", "stage_name", "stage_number", "execution_group", "input_group", "dependencies", "status",
    "queue", "priority", "dispatch_priority", "output_id", "metrics", *(option.name for option in fields(StageRunOptions)),
)  # fmt: skip


def insert_run(tx: Connection, new: NewRun) -> LockedRun | None:
    """Insert a PENDING run and return it locked; None, nothing written, when its id or idempotency key is taken."""
    row = {**asdict(new), "status": RunStatus.PENDING.value, "created_at": now(), "current_group": 1, "remaining": 0}
    statement = insert_or_ignore(tx, runs).values(row)
    locked = (runs.c.created_at.label("locked_at"), sa.true().label("admits"))
    found = tx.execute(statement.returning(*RUN_COLUMNS, *locked)).mappings().first()
    return LockedRun(tx, found) if found else None


def add_group(
    run: LockedRun,
    number: int,
    new: Sequence[NewStageRun],
    *,
    input_group: int | None = None,
    start_after: int | None = None,
) -> None:
    """Insert the stage runs of group ``number`` as the live group and remember to dispatch them.

    Args:
        run: The run that comes to that group.
        number: Number of the group.
        new: Its stage runs.
        input_group: The group whose outputs are its input; None: the one that the run has noted.
        start_after: An instant that keeps them waiting; one in the past means now.
    """
    source = run.row.input_group if input_group is None else input_group
    run.change(current_group=number, input_group=source, remaining=len(new), failed=0)
    available_at = max(run.now, start_after or run.now)
    run.tx.execute(stages.insert(), [_new_stage_run(run, stage, available_at) for stage in new])
    hints = [Hint(stage.id, 1, run.id, stage.stage_id, stage.queue, run.row.priority) for stage in new]
    if available_at == run.now:
        run.hints.extend(hints)
    else:
        run.later.extend((hint, available_at - run.now) for hint in hints)


def share_outputs(run: LockedRun, stage_run_ids: Collection[str]) -> None:
    """Insert copies of another run's ended stage runs that share its outputs: the past of a fork."""
    query = select(stages).where(stages.c.id.in_(stage_run_ids)).order_by(stages.c.stage_number)
    for row in run.tx.execute(query).mappings().all():
        copy = {name: row[name] for name in _SHARED_COLUMNS}
        own = {"id": new_id(), "run_id": run.id, "generation": run.generation, "created_at": run.now}
        ended = {"available_at": run.now, "dispatched_at": run.now, "completed_at": run.now}
        producer = row["shared_from"] or row["id"]
        run.tx.execute(stages.insert().values(**copy, **own, **ended, shared_from=producer))


def _new_stage_run(run: LockedRun, stage: NewStageRun, available_at: int) -> dict[str, Any]:
    planned = asdict(stage)
    timeout = planned.pop("queue_timeout_ms")
    return {
        **planned,
        "run_id": run.id,
        "input_group": run.row.input_group,
        "generation": run.generation,
        "status": StageStatus.PENDING.value,
        "priority": run.row.priority,
        "dispatch_priority": run.row.priority,
        "available_at": available_at,
        "dispatched_at": run.now,
        "queue_timeout_at": None if timeout is None else available_at + timeout,
        "created_at": run.now,
    }
