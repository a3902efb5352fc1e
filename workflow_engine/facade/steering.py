"""Steer runs by their ids, one or many at once, and repair or delete what is recorded of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflow_engine import engine as commands
from workflow_engine.arguments import read_statuses
from workflow_engine.errors import ConflictError, InvalidRequestError, NotFoundError
from workflow_engine.facade.annotating import RunNotes
from workflow_engine.facade.argument_checks import checks_arguments
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.ids import id_of
from workflow_engine.lifecycle import TERMINAL_RUN, RunStatus
from workflow_engine.store.reads import run_queries as queries
from workflow_engine.store.reads.runs import find_by_idempotency_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime, timedelta

    from workflow_engine.definition import Workflow
    from workflow_engine.engine import SweepReport
    from workflow_engine.facade.reading import AnyStage
    from workflow_engine.store.reads.snapshots import RunSnapshot


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What a rerun of many runs did; in a dry run, what it would do."""

    #: The runs that were rerun.
    run_ids: tuple[str, ...] = ()
    #: For each run that was not rerun, the reason.
    refused: Mapping[str, str] = field(default_factory=dict)


@checks_arguments
class RunControl(RunNotes):
    """Everything that can be done with runs once they exist: read, steer, repair, delete."""

    def get_run(self, run_id: str) -> RunHandle[Any]:
        """Return a handle of a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return self._handle(self.get_snapshot(run_id).id)

    def find_run(self, run_id: str | None = None, *, idempotency_key: str | None = None) -> RunHandle[Any] | None:
        """Return a handle of a run, or None.

        Args:
            run_id: The run's id.
            idempotency_key: The key with which the run was created or forked.

        Raises:
            InvalidRequestError: Neither of the two is given, or both are.
        """
        if (run_id is None) == (idempotency_key is None):
            raise InvalidRequestError("find_run takes a run_id or an idempotency_key")
        if run_id is not None:
            found = self.database.read(lambda tx: queries.find_run_status(tx, run_id))
            return None if found is None else self._handle(run_id)
        accepted = self.database.read(lambda tx: find_by_idempotency_key(tx, str(idempotency_key)))
        return None if accepted is None else self._handle(accepted.run_id)

    def cancel(self, run_id: str, *, reason: str | None = None, terminate: bool = False) -> RunSnapshot:
        """Cancel a run and the runs that its stages created; return it as it is then.

        It is CANCELLED then, unless it had ended before.

        Args:
            run_id: The run.
            reason: Recorded with the event.
            terminate: Also kill the pool processes (prefork) that execute the run's stages, instead of only telling
                the bodies by ``ctx.cancelled``.
        """
        return self._handle(run_id).cancel(reason=reason, terminate=terminate)

    def pause(self, run_id: str) -> None:
        """Hold a run: none of its stages begins until ``resume``; running stages, waits and deadlines go on."""
        self._handle(run_id).pause()

    def resume(self, run_id: str) -> None:
        """Let a paused run go on."""
        self._handle(run_id).resume()

    def pause_workflow(self, workflow: Workflow[Any, Any] | str) -> None:
        """Hold every run of a workflow, later ones included."""
        commands.pause_workflow(self.engine, id_of(workflow))

    def resume_workflow(self, workflow: Workflow[Any, Any] | str) -> int:
        """Let the runs of a paused workflow go on; return how many of them have not ended."""
        return commands.resume_workflow(self.engine, id_of(workflow))

    def rerun(
        self,
        run_id: str,
        *,
        from_stage: AnyStage,
        only: bool = False,
        expected_generation: int | None = None,
        idempotency_key: str | None = None,
    ) -> RunHandle[Any]:
        """Run an ended run again from a stage on, with the outputs of earlier groups.

        Args:
            run_id: The run; it keeps its id and gets a new generation.
            from_stage: Its whole group runs again.
            only: Keep the outputs of the other stages of that group.
            expected_generation: The generation that the caller saw; a run that was rerun since is refused.
            idempotency_key: Names this request. The same request with the same key, made for instance because the
                first answer was lost, changes nothing, also when that rerun has ended meanwhile. Keys belong to the run.

        Raises:
            StageNotFoundError: The workflow has no such stage.
            RunStateError: The run has not ended, or is in another generation.
            RerunRefusedError: Earlier groups are not complete.
            IdempotencyConflictError: The key stands for a rerun of this run from another stage.
        """
        return self._handle(run_id).rerun(
            from_stage=from_stage,
            only=only,
            expected_generation=expected_generation,
            idempotency_key=idempotency_key,
        )

    def rerun_all(
        self,
        status: RunStatus | Collection[RunStatus] = RunStatus.FAILED,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        since: datetime | None = None,
        from_stage: AnyStage | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> BulkResult:
        """Rerun every run with this status, each from the last group that it had come to.

        Of a failed run that is the group of the stage that failed. A run that somebody else reran meanwhile is refused.

        Args:
            status: How the runs ended.
            workflow: Only runs of this workflow.
            since: Only runs that ended at this instant or later.
            from_stage: Rerun each run from this stage.
            dry_run: Only tell which runs would be rerun.
            idempotency_key: Names this request. A second request with the same key reruns no run again, also none
                that has failed again meanwhile.

        Raises:
            InvalidRequestError: An argument is not valid; nothing was rerun.
        """
        rerun: list[str] = []
        refused: dict[str, str] = {}
        cursor: str | None = None
        while True:
            page = self.list_runs(
                status=status, workflow=workflow, completed_after=since, limit=queries.MAX_PAGE, cursor=cursor
            )
            for run in page.items:
                try:
                    if not dry_run:
                        commands.rerun_run(
                            self.engine,
                            run.id,
                            from_stage=None if from_stage is None else id_of(from_stage),
                            expected_generation=run.generation,
                            idempotency_key=idempotency_key,
                        )
                    rerun.append(run.id)
                except (ConflictError, NotFoundError) as error:
                    refused[run.id] = str(error)
            cursor = page.next_cursor
            if cursor is None:
                return BulkResult(tuple(rerun), refused)

    def fork(
        self,
        run_id: str,
        *,
        from_stage: AnyStage,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        expected_generation: int | None = None,
        idempotency_key: str | None = None,
    ) -> RunHandle[Any]:
        """Create a run that starts at a stage on the outputs of another run, with ``config`` merged over that run's.

        Args:
            run_id: The run whose outputs, with all that is recorded of their stage runs, the fork shares.
            from_stage: The first stage that the fork executes.
            config: By stage id, only what differs.
            priority: Of the fork; the other run's by default.
            expected_generation: The generation that the caller saw; a run that was rerun since is refused.
            idempotency_key: A second call with the same key returns the fork of the first. Keys of forks and those of
                ``create_run`` are the same kind of key.

        Raises:
            StageNotFoundError: The workflow has no such stage.
            RunStateError: The other run is in another generation.
            RerunRefusedError: The other run's earlier groups are not complete.
            InvalidDataError: The merged config is not valid.
            IdempotencyConflictError: The key stands for a run that was created otherwise.
        """
        return self._handle(run_id).fork(
            from_stage=from_stage,
            config=config,
            priority=priority,
            expected_generation=expected_generation,
            idempotency_key=idempotency_key,
        )

    def transition_workflow(self, run_id: str) -> RunStatus:
        """Send a run's due stages to the workers again, for repair by hand; return the run's status.

        It may be called at any time: a stage that was sent twice is executed once.
        """
        return commands.redispatch_run(self.engine, run_id)

    def poll_suspended_stages(self) -> int:
        """Send every due stage and poll that has no message under way; return how many messages were sent."""
        return commands.redispatch_due(self.engine)

    def sweep(self, *, force: bool = True) -> SweepReport:
        """Sweep once: repair what lost workers and lost messages left, and end what is past its time limit.

        Without ``force`` nothing is done if another sweep began a moment ago.
        """
        return commands.sweep(self.engine, force=force)

    def prune(
        self, older_than: timedelta, statuses: Collection[RunStatus | str] = TERMINAL_RUN, *, dry_run: bool = False
    ) -> int:
        """Delete runs that ended longer than ``older_than`` ago, with all that is recorded of them; return how many.

        Args:
            older_than: Counted from the end of each run.
            statuses: How the runs ended.
            dry_run: Only count the runs.

        Raises:
            InvalidRequestError: A status is one of live runs, or an argument is not valid.
        """
        ended = read_statuses(RunStatus, statuses, name="statuses")
        return commands.prune(self.engine, older_than=older_than, statuses=ended, dry_run=dry_run)

    def _handle(self, run_id: str) -> RunHandle[Any]:
        return RunHandle(self, run_id)
