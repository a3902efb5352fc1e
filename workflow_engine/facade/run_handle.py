"""A handle of one run: everything that can be asked of the run or done with it, without naming it again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from workflow_engine import engine as commands
from workflow_engine.definition.contexts.port import CALLBACK_VALIDITY
from workflow_engine.errors import RunNotFoundError, RunWaitTimeout
from workflow_engine.facade.argument_checks import checks_arguments
from workflow_engine.ids import id_of
from workflow_engine.lifecycle import TERMINAL_RUN, RunStatus
from workflow_engine.store.reads.run_queries import find_run_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.definition import AnnotationKey
    from workflow_engine.events import Event
    from workflow_engine.facade.annotating import RunNotes
    from workflow_engine.facade.reading import AnyStage
    from workflow_engine.store.reads.snapshots import (
        AnnotationEntry,
        ArtifactEntry,
        LogEntry,
        Page,
        RunSnapshot,
        StageSnapshot,
    )

OutputT = TypeVar("OutputT")

#: First and longest pause between two looks at a run that somebody waits for.
_FIRST_LOOK: Final = timedelta(milliseconds=20)
_LAST_LOOK: Final = timedelta(seconds=1)


@checks_arguments
class RunHandle(Generic[OutputT]):
    """One run: watch it, wait for it, steer it. Every answer is read from the database when it is asked for.

    A runtime has the methods that list, steer and tell outcomes as well, with the id of the run before the other
    arguments; their documentation is longer there.
    """

    def __init__(self, runs: RunNotes, run_id: str) -> None:
        self._runs = runs
        self.id = run_id

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"

    @property
    def status(self) -> RunStatus:
        """Status now."""
        return self.snapshot().status

    def snapshot(self) -> RunSnapshot:
        """Return the run as it is now."""
        return self._runs.get_snapshot(self.id)

    def wait(self, timeout: timedelta | None = None, *, poll_interval: timedelta = _LAST_LOOK) -> OutputT:
        """Wait until the run has ended and return its output.

        Args:
            timeout: How long to wait at most; None waits for ever.
            poll_interval: Longest pause between two looks; the first ones are shorter.

        Raises:
            RunFailed: The run failed; the message is that of the first failure.
            RunCancelled: The run was cancelled.
            RunWaitTimeout: The run has not ended yet; it goes on.
        """
        clock = self._runs.engine.clock
        end = None if timeout is None else clock.monotonic() + timeout.total_seconds()
        pause = min(_FIRST_LOOK, poll_interval)
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
            RunFailed, RunCancelled: The run ended otherwise.
            RunStateError: The run has not ended.
        """
        output: OutputT = self._runs.get_output(self.id)
        return output

    def list_stages(self, *, history: bool = False) -> list[StageSnapshot]:
        """Return the stage runs so far; with ``history`` also those that reruns replaced."""
        return self._runs.list_stages(self.id, history=history)

    def list_logs(
        self, stage: AnyStage | None = None, *, history: bool = False, after: str | None = None
    ) -> Page[LogEntry]:
        """Return a page of log lines, the oldest first; with ``history`` also those of stage runs before reruns."""
        return self._runs.list_logs(self.id, stage, history=history, after=after)

    def list_events(self, *, after_sequence: int = 0) -> list[Event]:
        """Return the events after a sequence number, in order."""
        return self._runs.list_events(self.id, after_sequence=after_sequence)

    def list_artifacts(self, *, history: bool = False) -> list[ArtifactEntry]:
        """Return which artifacts there are; with ``history`` also those that reruns replaced."""
        return self._runs.list_artifacts(self.id, history=history)

    def annotate(
        self,
        key: str | AnnotationKey[Any],
        value: object,
        *,
        actor: str = "api",
        idempotency_key: str | None = None,
    ) -> AnnotationEntry:
        """Attach a value to the run; with an ``idempotency_key`` only once."""
        return self._runs.annotate(self.id, key, value, actor=actor, idempotency_key=idempotency_key)

    def complete_stage(self, stage: AnyStage, output: object) -> bool:
        """Complete a suspended or running stage with this output; False if the stage had an outcome already."""
        return self._runs.complete_stage(self.id, stage, output)

    def fail_stage(self, stage: AnyStage, error: str) -> bool:
        """Fail a suspended or running stage for good with this message; False if the stage had an outcome already."""
        return self._runs.fail_stage(self.id, stage, error)

    def callback_token(self, stage: AnyStage, *, valid_for: timedelta = CALLBACK_VALIDITY) -> str:
        """Return a signed token with which a public endpoint can complete or fail this one stage run."""
        return self._runs.callback_token(self.id, stage, valid_for=valid_for)

    def cancel(self, *, reason: str | None = None, terminate: bool = False) -> RunSnapshot:
        """Cancel the run and the runs that its stages created; return it as it is then."""
        commands.cancel_run(self._runs.engine, self.id, reason=reason, terminate=terminate)
        return self.snapshot()

    def pause(self) -> None:
        """Hold the run: none of its stages begins until ``resume``; running stages go on."""
        commands.pause_run(self._runs.engine, self.id)

    def resume(self) -> None:
        """Let the paused run go on."""
        commands.resume_run(self._runs.engine, self.id)

    def rerun(
        self,
        *,
        from_stage: AnyStage,
        only: bool = False,
        expected_generation: int | None = None,
        idempotency_key: str | None = None,
    ) -> RunHandle[OutputT]:
        """Run the ended run again from a stage on, with the outputs of earlier groups."""
        commands.rerun_run(
            self._runs.engine,
            self.id,
            from_stage=id_of(from_stage),
            only=only,
            expected_generation=expected_generation,
            idempotency_key=idempotency_key,
        )
        return self

    def fork(
        self,
        *,
        from_stage: AnyStage,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        expected_generation: int | None = None,
        idempotency_key: str | None = None,
    ) -> RunHandle[OutputT]:
        """Create a run that starts at a stage on this run's outputs, with ``config`` merged over this run's config."""
        forked = commands.fork_run(
            self._runs.engine,
            self.id,
            from_stage=id_of(from_stage),
            config=config,
            priority=priority,
            expected_generation=expected_generation,
            idempotency_key=idempotency_key,
        )
        return RunHandle(self._runs, forked.run_id)

    def _has_ended(self) -> bool:
        status = self._runs.database.read(lambda tx: find_run_status(tx, self.id))
        if status is None:
            raise RunNotFoundError(self.id)
        return status in TERMINAL_RUN
