"""The runtime of an application: its workflows on its database; creates runs, and executes them on Celery workers."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from workflow_engine import engine as commands
from workflow_engine.clock import Clock, SystemClock
from workflow_engine.definition import as_registry
from workflow_engine.engine import CreateRun, Engine
from workflow_engine.errors import ConfigurationError
from workflow_engine.facade.argument_checks import checks_arguments
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.facade.steering import RunControl
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.connection.error_texts import loggable
from workflow_engine.store.schema import revisions as schema
from workflow_engine.worker.engine_holder import EngineHolder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from celery import Celery

    from workflow_engine.definition import PollContext, StageContext, Workflow
    from workflow_engine.engine import Dispatcher
    from workflow_engine.worker.wire.dispatcher import CeleryDispatcher

logger = logging.getLogger("workflow_engine")

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


@checks_arguments
class WorkflowRuntime(RunControl):
    """Everything that an application does with workflows.

    ```python
    runtime = WorkflowRuntime(workflows=[analysis], database_url="postgresql://…", broker_url="redis://…")
    run = runtime.create_run(analysis, Document(url="…"))
    report = run.wait(timeout=timedelta(minutes=5))
    ```

    Making one connects to nothing: the schema is checked when the database is first used. Threads may share it, and
    processes that are forked afterwards get connections of their own.

    Args:
        workflows: A workflow, several, a mapping by id, or an object with ``get_workflow``.
        settings: All settings; by default they are read from ``WORKFLOW_ENGINE_*``.
        database_url: Overrides the setting.
        broker_url: Overrides the setting.
        app: The Celery app that a team already has; ``install`` is called on it.
        clock: Tells the time outside the database.
        dispatcher: Carries hints instead of Celery.
        overrides: Other settings.

    Raises:
        ConfigurationError: A setting does not fit.
        DefinitionError: Something is not a workflow, or two definitions share an id.
    """

    def __init__(
        self,
        workflows: object = (),
        *,
        settings: Settings | None = None,
        database_url: str | None = None,
        broker_url: str | None = None,
        app: Celery | None = None,
        clock: Clock | None = None,
        dispatcher: Dispatcher | None = None,
        **overrides: Any,
    ) -> None:
        overrides |= {"database_url": database_url, "broker_url": broker_url}
        self.settings = _settings(settings, overrides)
        self.clock = clock or SystemClock()
        database = Database(self.settings.database_url, pool_size=self.settings.pool_size, clock=self.clock)
        super().__init__(database, as_registry(workflows), self.settings.redactor)
        self._dispatcher = dispatcher
        self._own_dispatcher: CeleryDispatcher | None = None
        self._app: Celery | None = None
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._is_checked = False
        self._engines = EngineHolder(self._build_engine)
        self._worker: Any = None
        self._beat: Any = None
        self._sweeper: Any = None
        if app is not None:
            self.install(app)

    @property
    def database(self) -> Database:
        """The authority, with the schema that this version needs.

        Raises:
            MigrationRequiredError: The schema is another one; the message names the command that repairs it.
        """
        if self._pid != os.getpid():
            self._lock = threading.RLock()  # the parent's may have been held during the fork
            self._database.forget_connections()
            self._pid = os.getpid()  # last: other threads go on as soon as they see it
        with self._lock:
            if not self._is_checked:
                schema.ensure(self._database, auto_upgrade_sqlite=self.settings.auto_upgrade_sqlite)
                self._is_checked = True
        return self._database

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        return self._engines.get()

    @property
    def app(self) -> Celery:
        """The Celery app: the one that was installed into, else one of our own on the broker of the settings."""
        with self._lock:
            if self._app is None:
                from workflow_engine.worker.app import create_app  # noqa: PLC0415 - imports Celery, not before needed

                self.install(create_app(self.settings))
            assert self._app is not None  # noqa: S101 - install has set it
            return self._app

    @property
    def worker_id(self) -> str:
        """Names this process as the owner of leases: ``host:pid:random``."""
        return self.engine.worker_id

    def get_workflow_priority(self, workflow_id: str) -> int:
        """Return the priority that runs of the workflow get where ``create_run`` names none.

        Raises:
            WorkflowNotFoundError: No workflow of that id is registered here.
        """
        return self.registry.priority_of(self.registry.get(workflow_id).id)

    @overload
    def create_run(
        self,
        workflow: Workflow[InputT, OutputT],
        input: InputT | Mapping[str, Any] | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        deadline: timedelta | datetime | None = None,
        start_after: datetime | None = None,
        parent: StageContext[Any, Any] | PollContext[Any, Any] | None = None,
    ) -> RunHandle[OutputT]: ...

    @overload
    def create_run(
        self,
        workflow: str,
        input: object = None,
        *,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        deadline: timedelta | datetime | None = None,
        start_after: datetime | None = None,
        parent: StageContext[Any, Any] | PollContext[Any, Any] | None = None,
    ) -> RunHandle[Any]: ...

    def create_run(
        self,
        workflow: Workflow[Any, Any] | str,
        input: object = None,  # noqa: A002 - the word of the domain
        *,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        deadline: timedelta | datetime | None = None,
        start_after: datetime | None = None,
        parent: StageContext[Any, Any] | PollContext[Any, Any] | None = None,
    ) -> RunHandle[Any]:
        """Create a run; it is durable when this returns, also when the broker is down.

        Args:
            workflow: A registered workflow, or its id.
            input: A model, or what its schema parses.
            config: Overrides of the stages' default configs, by stage id.
            priority: 0 to 10, higher is more important; else the workflow's, else 5.
            metadata: Plain JSON; runs can be found by its top-level scalars.
            idempotency_key: A second call with the same key returns the run of the first.
            deadline: An instant, or a duration from now, after which the run fails.
            start_after: No stage begins before.
            parent: Context of the stage that starts this run. The run is cancelled with the stage's run and counts to
                its rolled-up cost; its end wakes a stage that waits for it with ``Suspend.until_runs``. Without an
                ``idempotency_key`` the run gets the one of ``ctx.create_run``, which is the better way for a stage:
                a stage that is tried again finds the child that it had created.

        Raises:
            WorkflowNotFoundError: The workflow is not registered here.
            InvalidRequestError: Something is refused; nothing was written and the key is free.
            IdempotencyConflictError: The key stands for another workflow, input or config, or for a fork.
        """
        if parent is not None and idempotency_key is None:
            idempotency_key = parent.child_key(workflow)
        request = CreateRun(
            workflow=workflow,
            input=input,
            config=config,
            priority=priority,
            metadata=metadata or {},
            idempotency_key=idempotency_key,
            deadline=deadline,
            start_after=start_after,
            parent_run_id=None if parent is None else parent.run_id,
            parent_stage_run_id=None if parent is None else parent.stage_run_id,
        )
        return RunHandle(self, commands.create_run(self.engine, request).run_id)

    def install(self, app: Celery, *, consume: bool = True) -> None:
        """Make the workers of a Celery app execute this runtime's stages, and send its messages through that app.

        The app's own tasks, queues and settings stay as they are. Nothing is connected now.

        Args:
            app: The app.
            consume: Whether a worker that is started without ``-Q`` consumes the engine's queues besides its own.

        Raises:
            ConfigurationError: The app, or this runtime, is taken already.
        """
        from workflow_engine.worker.app import install  # noqa: PLC0415 - imports Celery, not before needed

        with self._lock:
            if self._app is not None:
                raise ConfigurationError(
                    f"This runtime is installed in {self._app!r} already; one app serves one runtime"
                )
            install(
                app,
                self._build_engine,
                settings=self.settings,
                stage_queues=self.registry.stage_queues,
                consume=consume,
            )
            self._app = app

    def start(self, concurrency: int = 4) -> Self:
        """Run a worker and beat in threads of this process until ``stop``; no other process is needed.

        The sweep also has a thread of its own, so that stages that occupy every slot do not hold it up.

        Raises:
            ConfigurationError: It runs already, or the broker cannot be reached.
        """
        from workflow_engine.worker.embedded.beat import EmbeddedBeat  # noqa: PLC0415 - same
        from workflow_engine.worker.embedded.worker import EmbeddedWorker  # noqa: PLC0415 - imports Celery, not before needed
        from workflow_engine.worker.process.sweeper import Sweeper  # noqa: PLC0415 - same

        with self._lock:
            if self._worker is not None:
                raise ConfigurationError("This runtime was started already")
            worker = EmbeddedWorker(self.app, concurrency)
            worker.start()
            self._worker = worker
            self._beat = EmbeddedBeat(self.app)
            self._beat.start()
            self._sweeper = Sweeper(self._sweep_quietly, self.settings.sweep_interval)
            self._sweeper.start()
        return self

    def stop(self, grace: timedelta | None = None) -> bool:
        """Stop what ``start`` started, when the running stages have ended; return whether they have.

        Args:
            grace: How long to wait for them; None waits until they end.
        """
        with self._lock:
            worker, beat, sweeper = self._worker, self._beat, self._sweeper
            self._worker = self._beat = self._sweeper = None
        if worker is None:
            return True
        beat.stop()
        sweeper.stop()
        return bool(worker.stop(grace))

    def close(self) -> None:
        """Stop, and close every connection; the runtime can be used again."""
        self.stop()
        self._engines.close()
        if self._app is not None:
            from workflow_engine.worker.installation import get_installation  # noqa: PLC0415 - imported with the app

            get_installation(self._app).engines.close()
        if self._own_dispatcher is not None:
            self._own_dispatcher.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _build_engine(self) -> Engine:
        return Engine.build(
            settings=self.settings,
            registry=self.registry,
            dispatcher=self._dispatcher or self._celery_dispatcher(),
            database=self.database,
            clock=self.clock,
        )

    def _celery_dispatcher(self) -> Dispatcher:
        from workflow_engine.worker.wire.dispatcher import CeleryDispatcher  # noqa: PLC0415 - imports Celery, when needed

        with self._lock:
            if self._own_dispatcher is None:
                self._own_dispatcher = CeleryDispatcher(self.app, self.settings)
            return self._own_dispatcher

    def _sweep_quietly(self) -> None:
        try:
            commands.sweep(self.engine)
        except Exception as error:
            logger.exception("the sweep failed; the next one tries again", exc_info=loggable(error))


def create_workflow_runtime(workflows: object = (), **options: Any) -> WorkflowRuntime:
    """Return ``WorkflowRuntime(workflows, **options)``."""
    return WorkflowRuntime(workflows, **options)


def _settings(settings: Settings | None, values: Mapping[str, Any]) -> Settings:
    given = {name: value for name, value in values.items() if value is not None}
    if settings is None:
        return Settings.load(**given)
    if given:
        raise ConfigurationError(f"Give settings or single values, not both (given: {', '.join(sorted(given))})")
    return settings
