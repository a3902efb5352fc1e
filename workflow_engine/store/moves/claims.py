"""Taking a stage run: for one attempt, or for one poll.

``claim`` is the portable form, in a few statements; PostgreSQL takes executions with the one statement of
``moves.postgres``. Both are idempotent under the caller's nonce: called again after an answer that was lost, they
return the claim that was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import select

from workflow_engine.definition import StoredOutput
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.moves import changes, run_moves, stage_moves
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.moves.admission import still_admits_claims
from workflow_engine.store.moves.claim_columns import claim_columns
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.records import Claim, ClaimKind
from workflow_engine.store.schema.tables import outputs, runs, stages

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.records import ClaimRequest, StageRow


def claim(database: Database, request: ClaimRequest) -> Claim | None:
    """Take the stage run if it is due; None when it is not, or is somebody else's, or does not exist.

    Durable when it returns. A PENDING stage run is taken for an attempt, a SUSPENDED one for a poll.
    """
    if database.is_postgres:
        taken = database.execute_one(lambda connection: moves_postgres.claim(connection, request))
        if taken is not None:
            return taken
    return database.transact(lambda tx: _claim(tx, request))


def _claim(tx: Connection, request: ClaimRequest) -> Claim | None:
    run = LockedRun.of_stage_run(tx, request.stage_run_id)
    stage = run.stage_run(request.stage_run_id) if run else None
    if run is None or stage is None:
        return None
    if stage.lease_id == request.nonce:
        return read_claim(tx, stage.id)
    if not _may_be_claimed(tx, run, stage):
        return None
    if stage.status is StageStatus.PENDING:
        _take_for_attempt(run, stage, request)
    else:
        stage_moves.claim_poll(run, stage, request)
    run.save()
    return read_claim(tx, stage.id)


def _take_for_attempt(run: LockedRun, stage: StageRow, request: ClaimRequest) -> None:
    if run.status is RunStatus.PENDING:
        run_moves.start(run)
    elif run.row.started_at is None:
        changes.note_restart(run)
    stage_moves.claim(run, stage, request)


def _may_be_claimed(tx: Connection, run: LockedRun, stage: StageRow) -> bool:
    return stage.is_due and run.admits and still_admits_claims(tx, run.row.workflow_id)


def read_claim(tx: Connection, stage_run_id: str) -> Claim | None:
    """Read what the holder of a lease needs to execute or poll."""
    row = (
        tx.execute(
            select(*claim_columns(stages, runs), stages.c.status, stages.c.dependencies)
            .join(runs, runs.c.id == stages.c.run_id)
            .where(stages.c.id == stage_run_id)
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    values = dict(row)
    status = values.pop("status")
    needed = values.pop("dependencies").split(",")
    kind = ClaimKind.EXECUTE if status == StageStatus.RUNNING.value else ClaimKind.POLL
    found = read_outputs(tx, values["run_id"], group=values["input_group"], stage_ids=needed)
    return Claim(kind=kind, outputs=found, **values)


def read_outputs(
    tx: Connection, run_id: str, *, group: int | None = None, stage_ids: list[str] | None = None
) -> dict[str, StoredOutput]:
    """Read live stage runs and their outputs: those of ``group`` and those named by ``stage_ids``."""
    wanted = sa.or_(stages.c.execution_group == (group or -1), stages.c.stage_id.in_(stage_ids or []))
    rows = tx.execute(
        select(stages.c.stage_id, stages.c.status, outputs.c.payload, stages.c.execution_group)
        .join(outputs, outputs.c.id == stages.c.output_id, isouter=True)
        .where(stages.c.run_id == run_id, stages.c.superseded_by.is_(None), wanted)
        .order_by(stages.c.stage_number)
    )
    return {row.stage_id: StoredOutput(StageStatus(row.status), row.payload, row.execution_group) for row in rows}
