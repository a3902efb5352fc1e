"""Watching and steering runs: the facade without the making of it, over whatever engine there is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workflow_engine import engine as commands
from workflow_engine.definition.annotations import to_annotation
from workflow_engine.engine import StageKey, read_token
from workflow_engine.errors import (
    ConflictError,
    InvalidDataError,
    NotFoundError,
    RunNotFoundError,
    RunWaitTimeout,
    StageNotFoundError,
)
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import TERMINAL_RUN, RunStatus
from workflow_engine.outside_log import log_from_outside
from workflow_engine.payload import encode_json
from workflow_engine.reader import AnyStage, RunReader, id_of
from workflow_engine.redact import clean_text
from workflow_engine.store import queries
from workflow_engine.store.annotations import add_annotation
from workflow_engine.store.stage_queries import find_stage_run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from workflow_engine.definition import AnnotationKey, StageLog, Workflow
    from workflow_engine.engine import Engine, SweepReport
    from workflow_engine.events import Event
    from workflow_engine.store.snapshots import (
        AnnotationEntry,
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
TOKEN_VALIDITY = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What a bulk rerun did, or would do."""

    #: The runs that were rerun; in a dry run those that would be.
    run_ids: tuple[str, ...] = ()
    #: Why the others were not, by run id.
    refused: Mapping[str, str] = field(default_factory=dict)


class RunControl(RunReader, ABC):
    """Reads and steers runs."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine of this process."""

    def get_run(self, run_id: str) -> RunHandle[Any]:
        """Return a handle of a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return RunHandle(self, self.snapshot(run_id).id)

    def find_run(self, run_id: str) -> RunHandle[Any] | None:
        """Return a handle of a run, or None."""
        try:
            return self.get_run(run_id)
        except RunNotFoundError:
            return None

    def cancel(self, run_id: str, *, reason: str | None = None, terminate: bool = False) -> RunSnapshot:
        """Cancel a run and the runs it started; return it as it is then: CANCELLED, unless it had ended before.

        Args:
            run_id: The run.
            reason: Recorded with the event.
            terminate: Also kill the pool processes (prefork) that execute bodies of it, instead of only telling them.
        """
        commands.cancel_run(self.engine, run_id, reason=reason, terminate=terminate)
        return self.snapshot(run_id)

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

    def rerun(self, run_id: str, *, from_stage: AnyStage, only: bool = False) -> RunHandle[Any]:
        """Run an ended run again from a stage on, with the outputs of earlier groups.

        Args:
            run_id: The run; it keeps its id and gets a new generation.
            from_stage: Its whole group runs again.
            only: Keep what the stage's siblings returned.

        Raises:
            StageNotFoundError: The workflow has no such stage.
            RunStateError: The run has not ended.
            RerunRefusedError: Earlier groups are not complete.
        """
        commands.rerun_run(self.engine, run_id, from_stage=id_of(from_stage), only=only)
        return RunHandle(self, run_id)

    def rerun_all(
        self,
        status: RunStatus | Collection[RunStatus] = RunStatus.FAILED,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        since: datetime | None = None,
        from_stage: AnyStage | None = None,
        dry_run: bool = False,
    ) -> BulkResult:
        """Rerun every run that ended so, each from the group that it had come to: the one of the stage that failed.

        Args:
            status: How they ended.
            workflow: Only runs of this workflow.
            since: Only runs that ended then or later.
            from_stage: Rerun all from this stage.
            dry_run: Only tell which runs are meant.
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
                        self.rerun(run.id, from_stage=from_stage or self._stage_to_repeat(run))
                    rerun.append(run.id)
                except (ConflictError, NotFoundError) as error:
                    refused[run.id] = str(error)
            cursor = page.next_cursor
            if cursor is None:
                return BulkResult(tuple(rerun), refused)

    def fork(
        self, run_id: str, *, from_stage: AnyStage, config: Mapping[str, Any] | None = None, priority: int | None = None
    ) -> RunHandle[Any]:
        """Create a run that starts at a stage on the outputs of another run, with ``config`` merged over that run's.

        Raises:
            StageNotFoundError: The workflow has no such stage.
            RerunRefusedError: The other run's earlier groups are not complete.
            InvalidDataError: The merged config is not valid.
        """
        forked = commands.fork_run(self.engine, run_id, from_stage=id_of(from_stage), config=config, priority=priority)
        return RunHandle(self, forked.run_id)

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

    def stage_token(self, run_id: str, stage: AnyStage, *, valid_for: timedelta = TOKEN_VALIDITY) -> str:
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
            InvalidRequestError: A status is one of live runs.
        """
        ended = [RunStatus(status) for status in statuses]
        return commands.prune(self.engine, older_than=older_than, statuses=ended, dry_run=dry_run)

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
        name, plain = to_annotation(key, value)
        text = encode_json(plain, what=f'annotation "{name}"', max_bytes=self.engine.settings.max_metadata_bytes)
        _check_text("actor", actor, longest=200)
        if idempotency_key is not None:
            _check_text("idempotency_key", idempotency_key, longest=255)
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

    def _stage_to_repeat(self, run: RunSnapshot) -> str:
        """Return a stage of the group that the run had come to; what failed is in it."""
        return next(stage.stage_id for stage in self.stages(run.id) if stage.execution_group == run.current_group)

    def _live_stage(self, run_id: str, stage_id: str) -> StageSnapshot:
        for stage in self.stages(run_id):
            if stage.stage_id == stage_id:
                return stage
        raise StageNotFoundError(stage_id, self.snapshot(run_id).workflow_id)

    def _key_of_token(self, token: str) -> StageKey:
        stage_run_id = read_token(self.engine, token)
        found = self.database.read(lambda tx: find_stage_run(tx, stage_run_id))
        if found is None:
            raise NotFoundError("The run that the stage token is for does not exist any more")
        return StageKey(found.run_id, found.stage_id, found.id)


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
        return self._control.snapshot(self.id)

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
        output: OutputT = self._control.output(self.id)
        return output

    def stages(self, *, history: bool = False) -> list[StageSnapshot]:
        """Return its stage runs so far; with ``history`` those that reruns replaced, too."""
        return self._control.stages(self.id, history=history)

    def logs(self, stage: AnyStage | None = None, *, after: str | None = None) -> Page[LogEntry]:
        """Return a page of its log lines, the oldest first."""
        return self._control.logs(self.id, stage, after=after)

    def events(self, *, after_sequence: int = 0) -> list[Event]:
        """Return its events after a sequence number, in order."""
        return self._control.events(self.id, after_sequence=after_sequence)

    def artifacts(self) -> list[ArtifactEntry]:
        """Return which artifacts it has."""
        return self._control.artifacts(self.id)

    def cancel(self, *, reason: str | None = None) -> RunSnapshot:
        """Cancel it."""
        return self._control.cancel(self.id, reason=reason)

    def rerun(self, *, from_stage: AnyStage, only: bool = False) -> RunHandle[OutputT]:
        """Run it again from a stage on, with the outputs of earlier groups."""
        self._control.rerun(self.id, from_stage=from_stage, only=only)
        return self

    def _has_ended(self) -> bool:
        status = self._control.database.read(lambda tx: queries.find_run_status(tx, self.id))
        if status is None:
            raise RunNotFoundError(self.id)
        return status in TERMINAL_RUN


def _check_text(name: str, value: str, *, longest: int) -> None:
    if not 0 < len(value) <= longest or value != clean_text(value):
        raise InvalidDataError(name, [f"must be a text of 1 to {longest} printable characters"])
