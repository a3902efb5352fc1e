"""Read runs and everything that is recorded of them, as frozen snapshots; nothing here changes anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

from workflow_engine.arguments import MOST_ITEMS, read_statuses
from workflow_engine.definition import GroupOutput, Stage
from workflow_engine.engine import read_run_result
from workflow_engine.errors import (
    ArtifactNotFoundError,
    RunCancelled,
    RunFailed,
    RunNotFoundError,
    RunStateError,
    StageNotFoundError,
    StageOutputMissing,
    StageSkipped,
)
from workflow_engine.facade.argument_checks import checks_arguments
from workflow_engine.ids import id_of
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.names import among
from workflow_engine.payloads.secrets import active_redactor, redacting
from workflow_engine.payloads.text import decode_json, encode_json
from workflow_engine.store.reads import artifacts, event_queries, logs, stage_queries
from workflow_engine.store.reads import run_queries as queries
from workflow_engine.store.reads.annotations import AnnotationFilter, list_annotations

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from workflow_engine.definition import Registry, Workflow
    from workflow_engine.engine import RunResult
    from workflow_engine.events import Event
    from workflow_engine.payloads.secrets import Redactor
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.reads.snapshots import (
        AnnotationEntry,
        ArtifactEntry,
        AttemptSnapshot,
        LogEntry,
        Page,
        RolledUpCost,
        RunSnapshot,
        StageSnapshot,
    )

OutputT = TypeVar("OutputT")
AnyStage = Stage[Any, Any] | str


@checks_arguments
class RunReader:
    """Reads runs.

    Args:
        database: Where they are recorded.
        registry: Parses outputs; those of workflows that it does not know are returned as plain JSON.
        redactor: Replaces secrets in messages about outputs, and in what is shown for people: states and metadata of
            suspensions.
    """

    def __init__(self, database: Database, registry: Registry, redactor: Redactor | None = None) -> None:
        self._database = database
        self._registry = registry
        self._redactor = redactor or active_redactor()

    @property
    def database(self) -> Database:
        """The database in which the runs are recorded."""
        return self._database

    @property
    def registry(self) -> Registry:
        """The workflows whose outputs are parsed here."""
        return self._registry

    def get_snapshot(self, run_id: str) -> RunSnapshot:
        """Return a run as it is now.

        Raises:
            RunNotFoundError: There is no such run.
        """
        found = self.database.read(lambda tx: queries.find_run(tx, run_id))
        if found is None:
            raise RunNotFoundError(run_id)
        return found

    def list_runs(
        self,
        *,
        status: RunStatus | Collection[RunStatus] = (),
        workflow: Workflow[Any, Any] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        completed_after: datetime | None = None,
        parent: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunSnapshot]:
        """Return a page of runs, the newest first.

        Args:
            status: One or several.
            workflow: A workflow or its id.
            metadata: Top-level scalars that the run's metadata must hold.
            created_after: Only runs created at this instant or later.
            created_before: Only runs created before this instant.
            completed_after: Only runs that ended at this instant or later.
            parent: Only runs that stages of the run with this id created.
            limit: Size of the page, at most 1000.
            cursor: ``next_cursor`` of the page before.

        Raises:
            InvalidRequestError: An argument is not valid, or a metadata value is nested or too long to be searched for.
        """
        wanted = queries.RunFilter(
            statuses=read_statuses(RunStatus, status),
            workflow_id=None if workflow is None else id_of(workflow),
            metadata=metadata or {},
            created_after=created_after,
            created_before=created_before,
            completed_after=completed_after,
            parent_run_id=parent,
        )
        return self.database.read(lambda tx: queries.list_runs(tx, wanted, limit=limit, cursor=cursor))

    def list_stages(self, run_id: str, *, history: bool = False) -> list[StageSnapshot]:
        """Return the stage runs that a run has so far; with ``history`` also those that reruns replaced."""
        found = self.database.read(lambda tx: stage_queries.list_stages(tx, run_id, history=history))
        return [self._redact(stage) for stage in found] or self._nothing_of(run_id)

    def list_attempts(self, run_id: str, stage: AnyStage, *, history: bool = False) -> list[AttemptSnapshot]:
        """Return the attempts and polls of a stage, the oldest first; with ``history`` also those before reruns."""
        stage_id = id_of(stage)
        found = self.database.read(lambda tx: stage_queries.list_attempts(tx, run_id, stage_id, history=history))
        return found or self._nothing_of(run_id, stage_id)

    def list_logs(
        self,
        run_id: str,
        stage: AnyStage | None = None,
        *,
        history: bool = False,
        after: str | None = None,
        limit: int = MOST_ITEMS,
    ) -> Page[LogEntry]:
        """Return a page of log lines, the oldest first: of the live stage runs, and of those that a fork shares.

        Args:
            run_id: The run.
            stage: Only lines of this stage.
            history: Also lines of stage runs that reruns replaced.
            after: ``next_cursor`` of the page before.
            limit: Size of the page, at most 1000.
        """
        stage_id = None if stage is None else id_of(stage)
        page = self.database.read(
            lambda tx: logs.list_logs(tx, run_id, stage_id=stage_id, history=history, after=after, limit=limit)
        )
        if not page.items:
            self._nothing_of(run_id, stage_id)
        return page

    def list_events(self, run_id: str, *, after_sequence: int = 0, limit: int = MOST_ITEMS) -> list[Event]:
        """Return the events after a sequence number, in order, at most ``limit`` of them (1000 and no more)."""
        found = self.database.read(
            lambda tx: event_queries.list_events(tx, run_id, after_sequence=after_sequence, limit=limit)
        )
        return found or self._nothing_of(run_id)

    def list_artifacts(self, run_id: str, *, history: bool = False) -> list[ArtifactEntry]:
        """Return which artifacts a run has, without their values: those of its live stage runs.

        Those whose output a fork shares are the fork's as well. With ``history`` the others are listed, too: those of
        stage runs that reruns replaced, and shared ones that a later stage run replaced.
        """
        found = self.database.read(lambda tx: artifacts.list_artifacts(tx, run_id, history=history))
        return found or self._nothing_of(run_id)

    def get_artifact(
        self, run_id: str, key: str, *, stage: AnyStage | None = None, generation: int | None = None
    ) -> Any:
        """Return an artifact as plain JSON.

        Args:
            run_id: The run.
            key: As it was saved.
            stage: The stage that saved it; None for an artifact that the run's stages share.
            generation: The generation of the stage run that saved it; by default only live stage runs count.

        Raises:
            RunNotFoundError: There is no such run.
            ArtifactNotFoundError: There is none under that key.
        """
        stage_id = None if stage is None else id_of(stage)
        text = self.database.read(lambda tx: artifacts.find_artifact(tx, run_id, stage_id, key, generation=generation))
        if text is None:
            self._nothing_of(run_id, stage_id)
            owner = f'Stage "{stage_id}" of run {run_id}' if stage_id else f"Run {run_id}"
            when = "" if generation is None else f" of generation {generation}"
            found = self.list_artifacts(run_id, history=generation is not None)
            there = among(key, (entry.key for entry in found if entry.stage_id == stage_id), kind="artifacts")
            raise ArtifactNotFoundError(f"{owner} has no artifact {key!r}{when}{there}")
        return decode_json(text)

    def list_annotations(
        self,
        run_id: str,
        *,
        prefix: str = "",
        actor: str | None = None,
        stage: AnyStage | None = None,
        generation: int | None = None,
        attempt: int | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        history: bool = False,
    ) -> list[AnnotationEntry]:
        """Return the annotations of a run, the oldest first: of its live stage runs, and all that others left.

        Those of stage runs whose output a fork shares are the fork's as well.

        Args:
            run_id: The run.
            prefix: Start of their keys.
            actor: Who left them; ``stage`` for those of stages.
            stage: The stage that left them.
            generation: The pass over the plan they were left in, also one that is history.
            attempt: The attempt that left them.
            created_after: Only annotations left at this instant or later.
            created_before: Only annotations left before this instant.
            history: Also those of stage runs that reruns replaced.
        """
        wanted = AnnotationFilter(
            prefix=prefix,
            actor=actor,
            stage_id=None if stage is None else id_of(stage),
            generation=generation,
            attempt=attempt,
            created_after=created_after,
            created_before=created_before,
            history=history or generation is not None,
        )
        found = self.database.read(lambda tx: list_annotations(tx, run_id, wanted))
        return found or self._nothing_of(run_id, wanted.stage_id)

    def get_input(self, run_id: str) -> Any:
        """Return the run's input, as the workflow's schema parsed it, as plain JSON."""
        return decode_json(self._texts(run_id).input)

    def get_config(self, run_id: str) -> Any:
        """Return the resolved config of every stage by its id, as plain JSON."""
        return decode_json(self._texts(run_id).config)

    def get_cost(self, run_id: str) -> RolledUpCost:
        """Return the cost of a run together with that of all runs that its stages created, at any depth.

        Raises:
            RunNotFoundError: There is no such run.
        """
        found = self.database.read(lambda tx: queries.rolled_up_cost(tx, run_id))
        if not found.runs:
            raise RunNotFoundError(run_id)
        return found

    def get_output(self, run_id: str) -> Any:
        """Return the output of a COMPLETED run, parsed.

        Raises:
            RunNotFoundError: There is no such run.
            RunFailed: The run failed; the message is that of the first failure.
            RunCancelled: The run was cancelled.
            RunStateError: The run has not ended.
        """

        def read(tx: Any) -> tuple[RunResult | None, RunSnapshot | None]:
            return read_run_result(tx, run_id), queries.find_run(tx, run_id)

        result, run = self.database.read(read)
        if result is None or run is None:
            raise RunNotFoundError(run_id)
        if result.status is RunStatus.FAILED:
            raise RunFailed(run_id, result.error or f"{run.error_code}")
        if result.status is RunStatus.CANCELLED:
            raise RunCancelled(run_id, f"Run {run_id} was cancelled")
        if result.text is None:
            raise RunStateError(f"Run {run_id} is {run.status}; it has no output yet")
        return self._parse_output(run, result.text)

    @overload
    def get_stage_output(self, run_id: str, stage: Stage[Any, OutputT]) -> OutputT: ...

    @overload
    def get_stage_output(self, run_id: str, stage: str) -> Any: ...

    def get_stage_output(self, run_id: str, stage: AnyStage) -> Any:
        """Return the output of a stage of a run, parsed; the run may be live.

        Raises:
            RunNotFoundError: There is no such run.
            StageNotFoundError: Its workflow has no such stage.
            StageSkipped: The stage was skipped.
            StageOutputMissing: It has no output, or none yet.
        """
        stage_id = id_of(stage)
        found = self.database.read(lambda tx: stage_queries.find_output(tx, run_id, stage_id))
        definition = stage if isinstance(stage, Stage) else self._find_stage(run_id, stage_id)
        if found is not None and found.payload is not None:
            if definition is None:
                return decode_json(found.payload)
            with redacting(self._redactor):
                return definition.output.decode(found.payload, what=f'output of stage "{stage_id}"')
        if found is not None and found.status is StageStatus.SKIPPED:
            raise StageSkipped(f'Stage "{stage_id}" of run {run_id} was skipped and has no output')
        status = "has not begun" if found is None else f"is {found.status}"
        raise StageOutputMissing(f'Stage "{stage_id}" of run {run_id} {status}; it has no output')

    def _redact(self, stage: StageSnapshot) -> StageSnapshot:
        waits = stage.suspension
        if waits is None:
            return stage
        shown = {"state": self._redactor.value(waits.state), "metadata": self._redactor.value(waits.metadata)}
        return replace(stage, suspension=replace(waits, **shown))

    def _find_stage(self, run_id: str, stage_id: str) -> Stage[Any, Any] | None:
        """Return the definition of a stage; None where its workflow is not known here."""
        workflow_id = self.get_snapshot(run_id).workflow_id
        workflow = self.registry.find(workflow_id)
        return None if workflow is None else workflow.get_stage(stage_id)

    def _parse_output(self, run: RunSnapshot, text: str) -> Any:
        workflow = self.registry.find(run.workflow_id)
        if workflow is None:
            return decode_json(text)
        if run.output_group == 0:
            return workflow.input.decode(text, what=f"output of run {run.id}")
        if workflow.output.type is GroupOutput:
            members = {
                key: encode_json(value, what=f'output of stage "{key}"') for key, value in decode_json(text).items()
            }
            return GroupOutput(members, workflow.stages)
        with redacting(self._redactor):
            return workflow.output.decode(text, what=f"output of run {run.id}")

    def _texts(self, run_id: str) -> queries.RunTexts:
        found = self.database.read(lambda tx: queries.find_run_texts(tx, run_id))
        if found is None:
            raise RunNotFoundError(run_id)
        return found

    def _nothing_of(self, run_id: str, stage_id: str | None = None) -> list[Any]:
        """Return an empty list for a run, and a stage of it, that exist.

        Raises:
            RunNotFoundError: There is no such run.
            StageNotFoundError: Neither its workflow has the stage nor has the run had it.
        """
        workflow = self.registry.find(self.get_snapshot(run_id).workflow_id)
        if workflow is None or stage_id is None or workflow.has_stage(stage_id):
            return []
        recorded = self.database.read(lambda tx: stage_queries.list_stages(tx, run_id, history=True))
        if any(stage.stage_id == stage_id for stage in recorded):
            return []
        raise StageNotFoundError(stage_id, workflow.id, workflow.stages)
