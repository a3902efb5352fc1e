"""Names that publishers, workers, beat and monitors share."""

from __future__ import annotations

from typing import Final

EXECUTE_STAGE: Final = "workflow_engine.execute_stage"
SWEEP: Final = "workflow_engine.sweep"


def control_queue(queue: str) -> str:
    """Return the queue of the sweep, of its own so that a backlog of stages never delays it."""
    return f"{queue}.control"
