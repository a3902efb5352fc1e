"""Writing and reading outputs; a fork shares those of the run that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow_engine.ids import new_id
from workflow_engine.store.schema.tables import outputs

if TYPE_CHECKING:
    from workflow_engine.store.moves.locked_run import LockedRun


def write_output(run: LockedRun, stage_id: str, payload: str) -> str:
    """Insert an output and return its id."""
    output_id = new_id()
    run.tx.execute(
        outputs.insert().values(id=output_id, run_id=run.id, stage_id=stage_id, payload=payload, created_at=run.now)
    )
    return output_id
