"""What every call of user code needs: who is called with what, and its answer made storable."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from workflow_engine.definition import StageIdentity, UntilRuns
from workflow_engine.engine.decisions.outcomes import decide_suspension
from workflow_engine.errors import DefinitionError
from workflow_engine.payloads.text import decode_json, encode_json

if TYPE_CHECKING:
    from workflow_engine.definition import ContextPort, Stage, Suspend
    from workflow_engine.engine.decisions.outcomes import Suspended
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.records import Claim


def identity_of(claim: Claim) -> StageIdentity:
    """Return which stage of which run is being executed."""
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


def config_of(config: str, stage: Stage[Any, Any]) -> Any:
    """Return the stage's part of the run's resolved config, parsed; raises InvalidDataError."""
    return stage.config.parse_fields(decode_json(config).get(stage.id, {}), what=f'config of stage "{stage.id}"')


def output_of(engine: Engine, stage: Stage[Any, Any], value: Any) -> str:
    """Return the JSON text of the parsed output; raises InvalidDataError or PayloadError."""
    what = f'output of stage "{stage.id}"'
    return stage.output.store(value, what=what, max_bytes=engine.settings.max_payload_bytes)


def state_of(engine: Engine, stage: Stage[Any, Any], value: Any) -> str:
    """Return the JSON text of a suspended state; raises InvalidDataError or PayloadError."""
    what = f'suspended state of stage "{stage.id}"'
    limit = engine.settings.max_payload_bytes
    if stage.state is None:
        return encode_json(value, what=what, max_bytes=limit)
    return stage.state.store(value, what=what, max_bytes=limit)


def suspension_of(engine: Engine, stage: Stage[Any, Any], suspend: Suspend[Any], port: ContextPort) -> Suspended:
    """Return the suspension with its state encoded and its waits decided.

    Raises:
        DefinitionError: Nothing would end it.
    """
    if isinstance(suspend, UntilRuns):
        state = encode_json(list(suspend.run_ids), what=f'runs that stage "{stage.id}" waits for')
    elif stage.poll is None:
        raise DefinitionError(
            f'Stage "{stage.id}" returned Suspend but has no poll to end it; pass poll=, a function of a PollContext'
        )
    else:
        state = state_of(engine, stage, suspend.state)
    metadata = None
    if suspend.metadata is not None:
        metadata = encode_json(engine.redactor.value(dict(suspend.metadata)), what="suspension metadata")
    if suspend.metrics:
        port.report(Decimal(0), 0, suspend.metrics)
    return decide_suspension(suspend, state, metadata, stage, engine.settings)
