"""What code outside of stages leaves with a run: annotations of the run, log lines of its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from workflow_engine.definition import StageLog
from workflow_engine.definition.contexts.annotations import to_annotation
from workflow_engine.errors import InvalidDataError
from workflow_engine.facade.argument_checks import checks_arguments
from workflow_engine.facade.callbacks import RunCallbacks
from workflow_engine.ids import id_of, new_id
from workflow_engine.payloads.text import encode_json
from workflow_engine.store.reads.annotations import add_annotation
from workflow_engine.store.reads.logs import append_log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.definition import AnnotationKey, ContextPort
    from workflow_engine.engine import Engine
    from workflow_engine.facade.reading import AnyStage
    from workflow_engine.store.reads.snapshots import AnnotationEntry


@checks_arguments
class RunNotes(RunCallbacks):
    """Reads runs, tells outcomes of their stages, and writes annotations and log lines to them."""

    def annotate(
        self,
        run_id: str,
        key: str | AnnotationKey[Any],
        value: object,
        *,
        actor: str = "api",
        idempotency_key: str | None = None,
    ) -> AnnotationEntry:
        """Attach a value to a run; with an ``idempotency_key`` only once, however often it is called.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidDataError, PayloadError: The value does not fit the key, or cannot be stored.
            IdempotencyConflictError: The idempotency key stands for another annotation of the run.
        """
        name, plain = _read_annotation(key, value)
        text = encode_json(plain, what=f'annotation "{name}"', max_bytes=self.engine.settings.max_metadata_bytes)
        annotation_id = new_id()
        return self.database.transact(
            lambda tx: add_annotation(
                tx,
                annotation_id=annotation_id,
                run_id=run_id,
                key=name,
                value=text,
                actor=actor,
                idempotency_key=idempotency_key,
            )
        )

    def create_log_context(self, run_id: str, stage_id: AnyStage) -> StageLog:
        """Return a logger for code that runs outside the stage; each line is stored with the stage at once.

        Raises:
            StageNotFoundError: The run has no such stage, or none yet.
        """
        self._get_begun_stage(run_id, id_of(stage_id))
        # A log calls one method of the port.
        return StageLog(cast("ContextPort", _LogPort(self.engine, run_id, id_of(stage_id))))


class _LogPort:
    """Stores log lines outside of any attempt; a line of a stage that has not begun is dropped."""

    def __init__(self, engine: Engine, run_id: str, stage_id: str) -> None:
        self._engine = engine
        self._run_id = run_id
        self._stage_id = stage_id

    def write_log(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        redactor = self._engine.redactor
        text = encode_json(redactor.value(dict(fields)), what="log fields") if fields else "{}"
        line = redactor.text(message)
        append_log(self._engine.database, self._run_id, self._stage_id, level=level, message=line, fields=text)


def _read_annotation(key: str | AnnotationKey[Any], value: object) -> tuple[str, Any]:
    try:
        return to_annotation(key, value)
    except ValueError as error:
        raise InvalidDataError("key", [str(error)]) from None
