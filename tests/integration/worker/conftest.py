from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from pydantic import BaseModel

from workflow_engine.definition import StageContext, Workflow, WorkflowBuilder, stage
from workflow_engine.definition.workflows.registry import as_registry
from workflow_engine.engine import CreateRun, Engine, create_run, read_run_result
from workflow_engine.lifecycle import RunStatus
from workflow_engine.settings import Settings
from workflow_engine.store.schema import revisions as schema
from workflow_engine.worker.app import create_app, install
from workflow_engine.worker.embedded.worker import EmbeddedWorker
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher
from workflow_engine.worker.worker_options import WorkerOptions

PATIENCE = 90.0


class Order(BaseModel):
    number: int = 0


class Script:
    """What the stages of a test do: note who they are, and wait for the gate if told to."""

    def __init__(self) -> None:
        self.executed: list[int] = []
        self.threads: set[str] = set()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def play(self, number: int) -> None:
        self.executed.append(number)
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(PATIENCE)

    def build(self) -> Workflow[Order, Order]:
        script = self

        @stage
        def perform(ctx: StageContext[Order]) -> Order:
            script.play(ctx.input.number)
            return ctx.input

        return WorkflowBuilder("scripted", input=Order).pipe(perform).build()


class Embedding:
    """A database, and an embedded worker on some broker."""

    def __init__(
        self,
        settings: Settings,
        script: Script,
        *,
        concurrency: int = 1,
        stage_queues: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.settings = settings
        self.app = create_app(settings)
        self.dispatcher = CeleryDispatcher(self.app, settings)
        self.engine = Engine.build(settings=settings, registry=as_registry(script.build()), dispatcher=self.dispatcher)
        schema.upgrade(self.engine.database)
        install(
            self.app,
            lambda: self.engine,
            settings=settings,
            stage_queues=lambda: stage_queues,
            options=WorkerOptions.load(**{"sweep_in_workers": "never", **options}),
        )
        self.worker = EmbeddedWorker(self.app, concurrency)

    def create_run(self, number: int, **values: Any) -> str:
        return create_run(self.engine, CreateRun("scripted", {"number": number}, **values)).run_id

    def status(self, run_id: str) -> RunStatus:
        result = self.engine.database.read(lambda tx: read_run_result(tx, run_id))
        assert result is not None
        return result.status

    def wait_until(self, is_true: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_true():
            assert time.monotonic() < deadline, "waited in vain"
            threading.Event().wait(0.01)

    def wait_for(self, *run_ids: str) -> None:
        self.wait_until(lambda: all(self.status(run_id) is RunStatus.COMPLETED for run_id in run_ids))

    def close(self) -> None:
        self.worker.stop()
        self.dispatcher.close()
        self.engine.close()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def embed(tmp_path: Path, script: Script, request: pytest.FixtureRequest) -> Iterator[Callable[..., Embedding]]:
    made: list[Embedding] = []

    def make(broker_url: str = "memory://", queue: str = "", **options: Any) -> Embedding:
        # memory:// is one broker for the whole process: tests keep out of each other's queues by name.
        name = queue or f"embedded-{abs(hash(request.node.nodeid))}-{len(made)}"
        database = f"sqlite:///{tmp_path / f'{len(made)}.db'}"
        settings = Settings.load(database_url=database, broker_url=broker_url, queue=name)
        made.append(Embedding(settings, script, **options))
        return made[-1]

    yield make
    script.gate.set()
    for embedding in made:
        embedding.close()


@pytest.fixture
def lose_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the next read of a consumer's connection fail with these words, as when the broker has gone."""
    losses: list[str] = []
    drain = Connection.drain_events

    def lose(self: Connection, **options: Any) -> None:
        if losses:
            raise self.connection_errors[0](losses.pop())
        drain(self, **options)

    monkeypatch.setattr(Connection, "drain_events", lose)
    return losses.append
