"""Log lines that are stored with a stage but written outside any of its attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from workflow_engine.definition import StageLog
from workflow_engine.payloads.text import encode_json
from workflow_engine.store.reads.logs import append_log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.definition import ContextPort
    from workflow_engine.engine import Engine


def log_from_outside(engine: Engine, run_id: str, stage_id: str) -> StageLog:
    """Return a logger that stores each line at once; lines for a stage that has not begun are dropped."""
    # A log calls one method of the port.
    return StageLog(cast("ContextPort", _LogPort(engine, run_id, stage_id)))


class _LogPort:
    def __init__(self, engine: Engine, run_id: str, stage_id: str) -> None:
        self._engine = engine
        self._run_id = run_id
        self._stage_id = stage_id

    def write_log(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        redactor = self._engine.redactor
        text = encode_json(redactor.value(dict(fields)), what="log fields") if fields else "{}"
        line = redactor.text(message)
        append_log(self._engine.database, self._run_id, self._stage_id, level=level, message=line, fields=text)
