"""Holding the claims of whole workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select, text

from workflow_engine.lifecycle import LIVE_RUN
from workflow_engine.store.connection.inserts import insert_or_ignore
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import controls, runs

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

#: The lock that ``workflow_is_paused`` shares among claims.
_WAIT_FOR_CLAIMS = text("SELECT pg_advisory_xact_lock(hashtextextended('workflow_engine pause ' || :workflow_id, 0))")


def pause(tx: Connection, workflow_id: str) -> None:
    """Hold the claims of the workflow's stage runs; waits for the claims that are under way."""
    if tx.dialect.name == "postgresql":
        tx.execute(_WAIT_FOR_CLAIMS, {"workflow_id": workflow_id})
    tx.execute(insert_or_ignore(tx, controls).values(workflow_id=workflow_id, paused_at=now()))


def resume(tx: Connection, workflow_id: str) -> None:
    """Let the claims go again."""
    tx.execute(delete(controls).where(controls.c.workflow_id == workflow_id))


def paused_workflows(tx: Connection) -> list[str]:
    """Return the workflows whose claims are held."""
    return list(tx.scalars(select(controls.c.workflow_id).order_by(controls.c.workflow_id)))


def live_runs(tx: Connection, workflow_id: str) -> list[str]:
    """Return the ids of the workflow's live runs, the oldest first."""
    query = select(runs.c.id).where(
        runs.c.workflow_id == workflow_id, runs.c.status.in_([status.value for status in LIVE_RUN])
    )
    return list(tx.scalars(query.order_by(runs.c.id)))
