"""A claim and everything that the calls of the user's code for it have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.definition import StageIdentity
from workflow_engine.engine.data.stage_output import encode_output
from workflow_engine.payloads.text import decode_json

if TYPE_CHECKING:
    from workflow_engine.definition import ContextPort, Stage, Workflow
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.records import Claim


@dataclass(frozen=True, slots=True)
class StageExecution:
    """A claim, the definitions that it is executed with, and the port through which its contexts act."""

    engine: Engine
    claim: Claim
    workflow: Workflow[Any, Any]
    stage: Stage[Any, Any]
    port: ContextPort

    @property
    def name(self) -> str:
        """The stage and its run, for people."""
        return f"stage {self.claim.stage_id} of run {self.claim.run_id}"

    @property
    def identity(self) -> StageIdentity:
        """Which stage of which run is executed."""
        claim = self.claim
        return StageIdentity(
            run_id=claim.run_id,
            workflow_id=claim.workflow_id,
            stage_id=claim.stage_id,
            stage_name=claim.stage_name,
            stage_run_id=claim.stage_run_id,
            attempt=claim.attempt,
            generation=claim.generation,
            fence=claim.fence,
            metadata=decode_json(claim.metadata),
        )

    @property
    def config(self) -> Any:
        """The stage's part of the run's resolved config, parsed; raises InvalidDataError."""
        part = decode_json(self.claim.config).get(self.stage.id, {})
        return self.stage.config.parse_fields(part, what=f'config of stage "{self.stage.id}"')

    def encode_output(self, value: Any) -> str:
        """Return the JSON text of the parsed output; raises InvalidDataError or PayloadError."""
        return encode_output(self.engine, self.stage, value)
