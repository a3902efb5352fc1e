"""Execute one run in this process, without a broker, through the same commands of the engine that workers call."""

from __future__ import annotations

import weakref
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from typing_extensions import override

from workflow_engine import engine as commands
from workflow_engine.clock import Clock, SystemClock
from workflow_engine.definition import as_registry
from workflow_engine.engine import CreateRun, Engine, Performed
from workflow_engine.errors import InvalidRequestError, RunNotFoundError
from workflow_engine.facade.hint_queue import HintQueue
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.facade.steering import RunControl
from workflow_engine.ids import id_of
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workflow_engine.definition import Workflow
    from workflow_engine.facade.reading import AnyStage

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


class WorkflowExecutor(Generic[InputT, OutputT]):
    """Executes runs of one workflow in threads of this process and waits for retries and polls.

    ```python
    report = WorkflowExecutor(analysis).execute(Document(url="…"))
    ```

    By default the records are kept in memory, for as long as the executor lives. If workers use the same database,
    they may execute some stages of the run.

    Args:
        workflow: The workflow.
        run_id: A run that exists: ``execute`` goes on with it, or reruns it.
        runtime: The executor uses the database, settings and clock of this runtime.
        database: The database, where no runtime is given.
        settings: All settings; by default they are read from ``WORKFLOW_ENGINE_*``.
        clock: Waits, and tells the time outside the database.
        concurrency: How many stages of a parallel group run at the same time.
        children: Workflows whose runs the stages create with ``ctx.create_run``; those runs are executed here as well.
    """

    def __init__(
        self,
        workflow: Workflow[InputT, OutputT],
        run_id: str | None = None,
        *,
        runtime: RunControl | None = None,
        database: Database | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        concurrency: int = 4,
        children: Sequence[Workflow[Any, Any]] = (),
    ) -> None:
        source = None if runtime is None else runtime.engine
        self._settings = settings or (source.settings if source else Settings.load())
        self._clock = clock or (source.clock if source else SystemClock())
        self._database = database or (source.database if source else self._own_database())
        self._workflow = workflow
        self._registry = as_registry([workflow, *(child for child in children if child is not workflow)])
        self._family: set[str] = set()
        self._concurrency = concurrency
        self._hints = HintQueue(self._clock)
        self._runs = _LocalRuns(self._build_engine)
        self.run_id = run_id
        schema.ensure(self._database, auto_upgrade_sqlite=self._settings.auto_upgrade_sqlite)

    @property
    def run(self) -> RunHandle[OutputT]:
        """The run that was executed last: its stages, events, logs and artifacts.

        Raises:
            InvalidRequestError: Nothing was executed yet.
        """
        return RunHandle(self._runs, self._known_run())

    def execute(
        self,
        input: InputT | Mapping[str, Any] | None = None,  # noqa: A002 - the word of the domain
        config: Mapping[str, Any] | None = None,
        *,
        from_stage: AnyStage | None = None,
    ) -> OutputT:
        """Execute a run to its end and return its output.

        The first call creates a run from ``input`` and ``config``. If the executor has a run (it was given ``run_id``,
        or has executed one), the call goes on with that run, or reruns it from ``from_stage``; ``input`` and
        ``config`` must be left out then, because the run keeps its own.

        Raises:
            InvalidRequestError: The input or config does not fit, or is given for a run that exists.
            RunFailed: The run failed; the message is that of the first failure.
            RunCancelled: The run was cancelled.
            RerunRefusedError, RunStateError, StageNotFoundError: The run cannot be rerun from that stage.
        """
        engine = self._runs.engine
        try:
            if from_stage is not None:
                self._refuse_values(input, config)
                commands.rerun_run(engine, self._known_run(), from_stage=id_of(from_stage))
            elif self.run_id is None:
                self.run_id = commands.create_run(engine, CreateRun(self._workflow, input, config)).run_id
            else:
                self._refuse_values(input, config)
            self._drive(engine, self._known_run())
        finally:
            self._runs.release()
        return self.run.output()

    def _drive(self, engine: Engine, run_id: str) -> None:
        """Execute what the queue holds until the run has ended and nothing of it is left to do."""
        flying: set[Future[Performed]] = set()
        self._family = {run_id}
        next_sweep = self._clock.monotonic() + self._settings.sweep_interval.total_seconds()
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="workflow-executor") as pool:
            while True:
                for hint in self._hints.take(self._belongs, self._concurrency - len(flying)):
                    flying.add(pool.submit(commands.execute_stage, engine, hint.stage_run_id, hint.dispatch_number))
                if flying:
                    pause = self._pause() if len(flying) < self._concurrency else self._settings.sweep_interval
                    done, flying = wait(flying, pause.total_seconds(), FIRST_COMPLETED)
                    for future in done:
                        future.result()
                elif self._has_ended(run_id):
                    return
                else:
                    self._wait_for_work(engine, run_id)
                if self._clock.monotonic() >= next_sweep:
                    commands.sweep(engine)
                    next_sweep = self._clock.monotonic() + self._settings.sweep_interval.total_seconds()

    def _wait_for_work(self, engine: Engine, run_id: str) -> None:
        """Sleep until the next hint is due; first make hints anew for due stages that have none."""
        if self._pause() > timedelta(0):
            commands.redispatch_run(engine, run_id)
        pause = self._pause()
        if pause > timedelta(0):
            self._clock.sleep(pause)

    def _pause(self) -> timedelta:
        """Return how long to wait for the next hint, at most until the next sweep."""
        return min(self._hints.time_left(), self._settings.sweep_interval)

    def _belongs(self, run_id: str) -> bool:
        """Tell whether it is the executed run, or a run that a stage of a run that belongs here created."""
        if run_id not in self._family:
            with suppress(RunNotFoundError):  # another run, which was deleted
                if self._runs.get_snapshot(run_id).parent_run_id in self._family:
                    self._family.add(run_id)
        return run_id in self._family

    def _has_ended(self, run_id: str) -> bool:
        return self._runs.get_snapshot(run_id).status.is_terminal

    def _known_run(self) -> str:
        if self.run_id is None:
            raise InvalidRequestError("There is no run yet: give run_id, or execute without from_stage first")
        return self.run_id

    def _refuse_values(self, *values: object) -> None:
        if any(value is not None for value in values):
            raise InvalidRequestError(f"Run {self.run_id} has its input and config already; give none")

    def _build_engine(self) -> Engine:
        return Engine.build(
            settings=self._settings,
            registry=self._registry,
            dispatcher=self._hints,
            database=self._database,
            clock=self._clock,
        )

    def _own_database(self) -> Database:
        database = Database("sqlite://", clock=self._clock)
        weakref.finalize(self, database.close)
        return database


class _LocalRuns(RunControl):
    """Reads and steers runs with an engine that is built when it is needed and whose threads can be ended."""

    def __init__(self, build: Callable[[], Engine]) -> None:
        self._build = build
        self._engine: Engine | None = None
        engine = self.engine
        super().__init__(engine.database, engine.registry, engine.redactor)

    @property
    @override
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = self._build()
        return self._engine

    def release(self) -> None:
        """End the engine's threads; the database stays open."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.keeper.stop()
            engine.bodies.stop()
