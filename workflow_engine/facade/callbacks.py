"""What code outside of stages reports: outcomes of stages that wait for it, annotations, log lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from workflow_engine import engine as commands
from workflow_engine.definition.contexts.annotations import to_annotation
from workflow_engine.engine import StageKey, read_token
from workflow_engine.errors import InvalidDataError, NotFoundError, StageNotFoundError
from workflow_engine.facade.argument_checks import checks_arguments
from workflow_engine.facade.reading import AnyStage, RunReader, id_of
from workflow_engine.facade.stage_log import log_from_outside
from workflow_engine.ids import new_id
from workflow_engine.payloads.text import encode_json
from workflow_engine.store.reads.annotations import add_annotation
from workflow_engine.store.reads.stage_queries import find_stage_run

if TYPE_CHECKING:
    from workflow_engine.definition import AnnotationKey, StageLog
    from workflow_engine.engine import Engine
    from workflow_engine.store.reads.snapshots import AnnotationEntry, StageSnapshot

TOKEN_VALIDITY: Final = timedelta(days=2)


@checks_arguments
class RunCallbacks(RunReader, ABC):
    """Reads runs, and records what others know about their stages."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine of this process."""

    def complete_stage(self, run_id: str, stage: AnyStage, output: object) -> bool:
        """Report the output of a stage that waits for something outside; False if it had an outcome already.

        Raises:
            StageNotFoundError: The run has no such stage, or none yet.
            InvalidDataError: The output does not fit the stage's schema; the stage goes on waiting.
            RunStateError: The stage has not begun.
        """
        return commands.complete_stage(self.engine, StageKey(run_id, id_of(stage)), output)

    def fail_stage(self, run_id: str, stage: AnyStage, error: str) -> bool:
        """Report that what a stage waits for failed; otherwise like ``complete_stage``."""
        return commands.fail_stage(self.engine, StageKey(run_id, id_of(stage)), error)

    def callback_token(self, run_id: str, stage: AnyStage, *, valid_for: timedelta = TOKEN_VALIDITY) -> str:
        """Return a signed token with which a public endpoint can report the outcome of this one stage run.

        Raises:
            StageNotFoundError: The run has no such stage, or none yet.
            ConfigurationError: The setting ``signing_key`` is missing.
        """
        return commands.make_token(self.engine, self._live_stage(run_id, id_of(stage)).id, valid_for=valid_for)

    def complete_by_token(self, token: str, output: object) -> bool:
        """Report the output of the stage run that a token names; otherwise like ``complete_stage``.

        Raises:
            InvalidRequestError: The token is forged or expired.
        """
        return commands.complete_stage(self.engine, self._key_of_token(token), output)

    def fail_by_token(self, token: str, error: str) -> bool:
        """Report the failure of the stage run that a token names; otherwise like ``complete_by_token``."""
        return commands.fail_stage(self.engine, self._key_of_token(token), error)

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
        """Return a logger whose lines are stored with a stage of a run, for code that runs outside the stage.

        Raises:
            StageNotFoundError: The run has no such stage, or none yet.
        """
        self._live_stage(run_id, id_of(stage_id))
        return log_from_outside(self.engine, run_id, id_of(stage_id))

    def _live_stage(self, run_id: str, stage_id: str) -> StageSnapshot:
        begun = {stage.stage_id: stage for stage in self.list_stages(run_id)}
        if stage_id not in begun:
            raise StageNotFoundError(stage_id, self.get_snapshot(run_id).workflow_id, begun)
        return begun[stage_id]

    def _key_of_token(self, token: str) -> StageKey:
        stage_run_id = read_token(self.engine, token)
        found = self.database.read(lambda tx: find_stage_run(tx, stage_run_id))
        if found is None:
            raise NotFoundError("The run that the callback token is for does not exist any more")
        return StageKey(found.run_id, found.stage_id, found.id)


def _read_annotation(key: str | AnnotationKey[Any], value: object) -> tuple[str, Any]:
    try:
        return to_annotation(key, value)
    except ValueError as error:
        raise InvalidDataError("key", [str(error)]) from None
