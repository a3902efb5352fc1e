"""What the contexts need from the engine: one port, and the values that cross it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from workflow_engine.definition.contexts.children import ChildRequest, ChildRun
    from workflow_engine.lifecycle import StageStatus


#: How long a callback token is valid where nothing else is said.
CALLBACK_VALIDITY: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class StageIdentity:
    """Which stage of which run is being executed."""

    run_id: str
    workflow_id: str
    stage_id: str
    stage_name: str
    stage_run_id: str
    #: 1-based.
    attempt: int
    #: 0, and one more for each rerun of the run.
    generation: int
    #: Grows with every claim; larger means newer.
    fence: int
    #: The run's metadata.
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def idempotency_key(self) -> str:
        """``run:generation:stage``: the same in every attempt, different after a rerun."""
        return f"{self.run_id}:{self.generation}:{self.stage_id}"


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """What is recorded of a stage of the same run: its status, and its output if it is COMPLETED."""

    #: None where the run has no live stage run of that id.
    status: StageStatus | None
    #: JSON text, or None where there is no output.
    payload: str | None
    #: 1-based; 0 where the run has no live stage run of that id.
    execution_group: int = 0


class ContextPort(Protocol):
    """Everything with an effect that a context can do; the engine implements it for each execution."""

    def output_of(self, stage_id: str) -> StoredOutput:
        """Return the recorded output of another stage of the run."""

    def write_log(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        """Append a log line; ``level`` is debug, info, warning or error."""

    def report_progress(self, fraction: float, message: str | None, details: Mapping[str, object]) -> None:
        """Tell how much of the stage is done, from 0 to 1."""

    def is_cancelled(self) -> bool:
        """Tell whether the run was cancelled or the lease lost."""

    def annotate(self, key: str, value: object) -> None:
        """Remember an annotation until the outcome is committed; ``value`` is plain JSON."""

    def report(self, cost: Decimal, tokens: int, metrics: Mapping[str, float]) -> None:
        """Add to what the stage run cost, until the outcome is committed."""

    def save_artifact(self, key: str, payload: str, *, shared: bool) -> None:
        """Store JSON text under ``key``, replacing what was there."""

    def load_artifact(self, key: str, *, shared: bool) -> str | None:
        """Return the JSON text under ``key``, or None."""

    def delete_artifact(self, key: str, *, shared: bool) -> bool:
        """Remove ``key``; tell whether it was there."""

    def list_artifacts(self, prefix: str, *, shared: bool) -> list[str]:
        """Return the keys that begin with ``prefix``, sorted."""

    def create_run(self, request: ChildRequest) -> ChildRun:
        """Create a run as a child of this stage run, unless an earlier execution has."""

    def make_callback_token(self, valid_for: timedelta) -> str:
        """Return a signed token that stands for this stage run."""
