"""Callbacks: code outside of a stage tells how the stage ended, named by its run and id or by a signed token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from workflow_engine import engine as commands
from workflow_engine.definition.contexts.port import CALLBACK_VALIDITY
from workflow_engine.engine import StageKey, read_token
from workflow_engine.errors import NotFoundError, StageNotFoundError
from workflow_engine.facade.argument_checks import checks_arguments
from workflow_engine.facade.reading import AnyStage, RunReader
from workflow_engine.ids import id_of
from workflow_engine.store.reads.stage_queries import find_stage_run

if TYPE_CHECKING:
    from datetime import timedelta

    from workflow_engine.engine import Engine
    from workflow_engine.store.reads.snapshots import StageSnapshot


@checks_arguments
class RunCallbacks(RunReader, ABC):
    """Reads runs, and tells outcomes of their stages."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine of this process."""

    def complete_stage(self, run_id: str, stage: AnyStage, output: object) -> bool:
        """Complete a suspended or running stage with this output; False if the stage had an outcome already.

        Raises:
            StageNotFoundError: The run has no such stage, or none yet.
            InvalidDataError: The output does not fit the stage's schema; the stage goes on waiting.
            RunStateError: The stage has not begun, or waits for its next attempt.
        """
        return commands.complete_stage(self.engine, StageKey(run_id, id_of(stage)), output)

    def fail_stage(self, run_id: str, stage: AnyStage, error: str) -> bool:
        """Fail a suspended or running stage for good with this message; otherwise like ``complete_stage``."""
        return commands.fail_stage(self.engine, StageKey(run_id, id_of(stage)), error)

    def callback_token(self, run_id: str, stage: AnyStage, *, valid_for: timedelta = CALLBACK_VALIDITY) -> str:
        """Return a signed token with which a public endpoint can complete or fail this one stage run.

        A body makes the token of its own stage run with ``ctx.callback_token()``.

        Raises:
            StageNotFoundError: The run has no such stage, or none yet.
            ConfigurationError: The setting ``signing_key`` is missing.
        """
        return commands.make_token(self.engine, self._get_begun_stage(run_id, id_of(stage)).id, valid_for=valid_for)

    def complete_by_token(self, token: str, output: object) -> bool:
        """Complete the stage run that a token names; otherwise like ``complete_stage``.

        Raises:
            InvalidRequestError: The token is forged or expired.
        """
        return commands.complete_stage(self.engine, self._key_of_token(token), output)

    def fail_by_token(self, token: str, error: str) -> bool:
        """Fail the stage run that a token names; otherwise like ``complete_by_token``."""
        return commands.fail_stage(self.engine, self._key_of_token(token), error)

    def _get_begun_stage(self, run_id: str, stage_id: str) -> StageSnapshot:
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
