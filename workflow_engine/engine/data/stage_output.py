"""The output of a stage as it is recorded, whether the body, a poll or a callback tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflow_engine.definition import Stage
    from workflow_engine.engine.process.engine import Engine


def encode_output(engine: Engine, stage: Stage[Any, Any], value: Any) -> str:
    """Return the JSON text of the parsed output; raises InvalidDataError or PayloadError."""
    what = f'output of stage "{stage.id}"'
    return stage.output.store(value, what=what, max_bytes=engine.settings.max_payload_bytes)
