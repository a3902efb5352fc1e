"""What a fork takes over from the run that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from workflow_engine.store.schema.tables import stages

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.engine import Connection, RowMapping

_COPIED = ("workflow_id", "workflow_name", "workflow_type", "workflow_version", "priority", "input", "metadata")


def copy_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a run that its forks have in common with it."""
    return {name: row[name] for name in _COPIED}


def stage_runs_to_share(tx: Connection, stage_run_ids: Collection[str]) -> Sequence[RowMapping]:
    """Return stage runs with all their columns, in the order of the workflow."""
    query = select(stages).where(stages.c.id.in_(stage_run_ids))
    return tx.execute(query.order_by(stages.c.stage_number)).mappings().all()
