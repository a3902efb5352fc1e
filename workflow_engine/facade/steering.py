"""Watching and steering runs: the facade without the making of it, over whatever engine there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workflow_engine import engine as commands
from workflow_engine.arguments import read_statuses
from workflow_engine.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RunNotFoundError,
    RunWaitTimeout,
)
from workflow_engine.facade.argument_checks import checks_arguments
from workflow_engine.facade.callbacks import RunCallbacks
from workflow_engine.facade.reading import AnyStage, id_of
from workflow_engine.lifecycle import TERMINAL_RUN, RunStatus
from workflow_engine.store.reads import run_queries as queries
from workflow_engine.store.reads.runs import find_by_idempotency_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from workflow_engine.definition import Workflow
    from workflow_engine.engine import SweepReport
    from workflow_engine.events import Event
    from workflow_engine.store.reads.snapshots import (
        ArtifactEntry,
        LogEntry,
        Page,
        RunSnapshot,
        StageSnapshot,
    )

OutputT = TypeVar("OutputT")

#: First and longest pause between two looks at a run that somebody waits for.
FIRST_LOOK = timedelta(milliseconds=20)
LAST_LOOK = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What a bulk rerun did, or would do."""

    #: The runs that were rerun; in a dry run those that would be.
    run_ids: tuple[str, ...] = ()
    #: Why the others were not, by run id.
    refused: Mapping[str, str] = field(default_factory=dict)


@checks_arguments
class RunControl(RunCallbacks):
    """Reads and steers runs."""

    def get_run(self, run_id: str) -> RunHandle[Any]:
        """Return a handle of a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return RunHandle(self, self.get_snapshot(run_id).id)

    def find_run(self, run_id: str | None = None, *, idempotency_key: str | None = None) -> RunHandle[Any] | None:
        """Return a handle of a run, or None.

        Args:
            run_id: Its id, or
            idempotency_key: the key that it was created, or forked, with.

        Raises:
            InvalidRequestError: Neither or both are given.
        """
        if (run_id is None) == (idempotency_key is None):
            raise InvalidRequestError("find_run takes a run_id or an idempotency_key")
        if run_id is not None:
            found = self.database.read(lambda tx: queries.find_run_status(tx, run_id))
            return None if found is None else RunHandle(self, run_id)
        accepted = self.database.read(lambda tx: find_by_idempotency_key(tx, str(idempotency_key)))
        return None if accepted is None else RunHandle(self, accepted.run_id)

    def cancel(self, run_id: str, *, reason: str | None = None, terminate: bool = False) -> RunSnapshot:
        """Cancel a run and the runs it started; return it as it is then: CANCELLED, unless it had ended before.

        Args:
            run_id: The run.
            reason: Recorded with the event.
            terminate: Also kill the pool processes (prefork) that execute bodies of it, instead of only telling them.
        """
        commands.cancel_run(self.engine, run_id, reason=reason, terminate=terminate)
        return self.get_snapshot(run_id)

    def pause(self, run_id: str) -> None:
        """Hold a run: nothing of it begins until ``resume``; what is under way goes on. Waits and deadlines go on."""
        commands.pause_run(self.engine, run_id)

    def resume(self, run_id: str) -> None:
        """Let a paused run go on."""
        commands.resume_run(self.engine, run_id)

    def pause_workflow(self, workflow: Workflow[Any, Any] | str) -> None:
        """Hold every run of a workflow, later ones included."""
        commands.pause_workflow(self.engine, workflow if isinstance(workflow, str) else workflow.id)

    def resume_workflow(self, workflow: Workflow[Any, Any] | str) -> int:
        """Let a paused workflow's runs go on; return how many live ones it has."""
        return commands.resume_workflow(self.engine, workflow if isinstance(workflow, str) else workflow.id)

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
            only: Keep what the stage's siblings returned.
            expected_generation: The generation that the caller saw; a run that was rerun since is refused.
            idempotency_key: Names this request: made again, for instance because its answer was lost, it changes
                nothing, also when that rerun has ended meanwhile. Keys belong to the run.

        Raises:
            StageNotFoundError: The workflow has no such stage.
            RunStateError: The run has not ended, or is in another generation.
            RerunRefusedError: Earlier groups are not complete.
            IdempotencyConflictError: The key stands for a rerun of this run from another stage.
        """
        commands.rerun_run(
            self.engine,
            run_id,
            from_stage=id_of(from_stage),
            only=only,
            expected_generation=expected_generation,
            idempotency_key=idempotency_key,
        )
        return RunHandle(self, run_id)

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
        """Rerun every run with this status, each from its last group: that of the stage that failed.

        A run that somebody else reran meanwhile is refused.

        Args:
            status: How they ended.
            workflow: Only runs of this workflow.
            since: Only runs that ended then or later.
            from_stage: Rerun all from this stage.
            dry_run: Only tell which runs are meant.
            idempotency_key: Names this request: made again it reruns no run twice, also one that failed again since.

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
        forked = commands.fork_run(
            self.engine,
            run_id,
            from_stage=id_of(from_stage),
            config=config,
            priority=priority,
            expected_generation=expected_generation,
            idempotency_key=idempotency_key,
        )
        return RunHandle(self, forked.run_id)

    def transition_workflow(self, run_id: str) -> RunStatus:
        """Send again what is due of a run, for repair by hand; return the run's status. Harmless when repeated."""
        return commands.redispatch_run(self.engine, run_id)

    def poll_suspended_stages(self) -> int:
        """Send what is due, polls included, and has no message under way; return how many messages were sent."""
        return commands.redispatch_due(self.engine)

    def sweep(self, *, force: bool = True) -> SweepReport:
        """Find and repair what no message will, once; without ``force`` only if no other sweep did a moment ago."""
        return commands.sweep(self.engine, force=force)

    def prune(
        self, older_than: timedelta, statuses: Collection[RunStatus | str] = TERMINAL_RUN, *, dry_run: bool = False
    ) -> int:
        """Delete runs that ended longer than ``older_than`` ago, with all that is recorded of them; return how many.

        Args:
            older_than: Counted from their end.
            statuses: How they ended.
            dry_run: Only count them.

        Raises:
            InvalidRequestError: A status is one of live runs, or an argument is not valid.
        """
        ended = read_statuses(RunStatus, statuses, name="statuses")
        return commands.prune(self.engine, older_than=older_than, statuses=ended, dry_run=dry_run)


@checks_arguments
class RunHandle(Generic[OutputT]):
    """One run: watch it, wait for it, steer it. Every answer is read from the database when it is asked for."""

    def __init__(self, control: RunControl, run_id: str) -> None:
        self._control = control
        self.id = run_id

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"

    @property
    def status(self) -> RunStatus:
        """Status now."""
        return self.snapshot().status

    def snapshot(self) -> RunSnapshot:
        """Return the run as it is now."""
        return self._control.get_snapshot(self.id)

    def wait(self, timeout: timedelta | None = None, *, poll_interval: timedelta = LAST_LOOK) -> OutputT:
        """Wait until the run has ended and return its output.

        Args:
            timeout: How long to wait at most; None waits for ever.
            poll_interval: Longest pause between two looks; the first ones are shorter.

        Raises:
            RunFailed: It failed; the message is the first failure's.
            RunCancelled: It was cancelled.
            RunWaitTimeout: It has not ended yet; it goes on.
        """
        clock = self._control.engine.clock
        end = None if timeout is None else clock.monotonic() + timeout.total_seconds()
        pause = min(FIRST_LOOK, poll_interval)
        while not self._has_ended():
            left = pause if end is None else timedelta(seconds=end - clock.monotonic())
            if left <= timedelta(0):
                raise RunWaitTimeout(self.id, f"Run {self.id} is {self.status} after {timeout}; it goes on")
            clock.sleep(min(pause, left))
            pause = min(pause * 1.5, poll_interval)
        return self.output()

    def output(self) -> OutputT:
        """Return the output.

        Raises:
            RunFailed, RunCancelled: It ended otherwise.
            RunStateError: It has not ended.
        """
        output: OutputT = self._control.get_output(self.id)
        return output

    def list_stages(self, *, history: bool = False) -> list[StageSnapshot]:
        """Return its stage runs so far; with ``history`` those that reruns replaced, too."""
        return self._control.list_stages(self.id, history=history)

    def list_logs(
        self, stage: AnyStage | None = None, *, history: bool = False, after: str | None = None
    ) -> Page[LogEntry]:
        """Return a page of its log lines, the oldest first; with ``history`` those of stage runs before reruns, too."""
        return self._control.list_logs(self.id, stage, history=history, after=after)

    def list_events(self, *, after_sequence: int = 0) -> list[Event]:
        """Return its events after a sequence number, in order."""
        return self._control.list_events(self.id, after_sequence=after_sequence)

    def list_artifacts(self, *, history: bool = False) -> list[ArtifactEntry]:
        """Return which artifacts it has; with ``history`` those that do not count any more, too."""
        return self._control.list_artifacts(self.id, history=history)

    def cancel(self, *, reason: str | None = None) -> RunSnapshot:
        """Cancel it."""
        return self._control.cancel(self.id, reason=reason)

    def rerun(
        self,
        *,
        from_stage: AnyStage,
        only: bool = False,
        expected_generation: int | None = None,
        idempotency_key: str | None = None,
    ) -> RunHandle[OutputT]:
        """Run it again from a stage on, with the outputs of earlier groups; see ``RunControl.rerun``."""
        self._control.rerun(
            self.id,
            from_stage=from_stage,
            only=only,
            expected_generation=expected_generation,
            idempotency_key=idempotency_key,
        )
        return self

    def _has_ended(self) -> bool:
        status = self._control.database.read(lambda tx: queries.find_run_status(tx, self.id))
        if status is None:
            raise RunNotFoundError(self.id)
        return status in TERMINAL_RUN
