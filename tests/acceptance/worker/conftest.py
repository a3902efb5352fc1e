from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workflow_engine.definition.workflows.registry import as_registry
from workflow_engine.engine import CreateRun, Engine, create_run
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema
from workflow_engine.worker.app import create_app
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE = 120.0


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations of its models are resolved there
    spec.loader.exec_module(module)
    return module


class Worker:
    """A Celery process of its own process group."""

    def __init__(self, arguments: list[str], environment: dict[str, str], directory: Path, *, cwd: Path = ROOT) -> None:
        self._log = directory / f"log-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


class World:
    """A database, a broker, an engine in this process, and the workers that the test starts."""

    def __init__(self, settings: Settings, directory: Path, pipelines: ModuleType) -> None:
        database = Database(settings.database_url)
        schema.upgrade(database)
        database.close()
        self.settings = settings
        self.directory = directory
        self.pipelines = pipelines
        self.app = create_app(settings)
        self.dispatcher = CeleryDispatcher(self.app, settings)
        self.engine = Engine.build(
            settings=settings, registry=as_registry(pipelines.workflows), dispatcher=self.dispatcher
        )
        self.workers: list[Worker] = []

    def start_worker(
        self, *arguments: str, app: str | None = "workflow_engine.worker.standalone", **options: str
    ) -> Worker:
        return self.start_celery("worker", "--loglevel=INFO", "--concurrency=2", *arguments, app=app, **options)

    def start_celery(
        self, *arguments: str, app: str | None = "workflow_engine.worker.standalone", **options: str
    ) -> Worker:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
            "WORKFLOW_ENGINE_DATABASE_URL": self.settings.database_url,
            "WORKFLOW_ENGINE_BROKER_URL": self.settings.broker_url,
            "WORKFLOW_ENGINE_WORKFLOWS": "pipelines:workflows",
            "WORKFLOW_ENGINE_LEASE": "PT60S",
            "WORKFLOW_ENGINE_SWEEP_INTERVAL": "PT1S",
            **{f"WORKFLOW_ENGINE_{name.upper()}": value for name, value in options.items()},
        }
        worker = Worker([*(["-A", app] if app else []), *arguments], environment, self.directory)
        self.workers.append(worker)
        return worker

    def create_run(self, workflow: str, **values: Any) -> str:
        return create_run(self.engine, CreateRun(workflow, values)).run_id

    def read(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.database.pool.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement.format(**values)).all()]

    def status(self, run_id: str) -> str:
        [(status,)] = self.read("SELECT status FROM workflow_runs WHERE id = '{run_id}'", run_id=run_id)
        return str(status)

    def wait_until(self, is_true: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        pause = threading.Event()
        while not is_true():
            dead = [worker for worker in self.workers if worker.process.returncode not in (None, 0)]
            if time.monotonic() > deadline:
                logs = "\n".join(worker.log[-4000:] for worker in self.workers)
                pytest.fail(f"waited {PATIENCE} s in vain ({len(dead)} workers died):\n{logs}")
            pause.wait(0.05)

    def wait_for(self, run_id: str, status: str = "COMPLETED") -> None:
        self.wait_until(lambda: self.status(run_id) == status)

    def wait_for_log(self, worker: Worker, text: str) -> None:
        self.wait_until(lambda: text in worker.log)

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.engine.close()
        self.dispatcher.close()


class Gate:
    """Holds the stages of the ``holding`` workflow until it is opened, and knows who executes them."""

    def __init__(self, directory: Path) -> None:
        self._pipe = directory / "gate"
        self._journal = directory / "journal"
        self._journal.touch()
        os.mkfifo(self._pipe)
        self.order = {"gate": str(self._pipe), "journal": str(self._journal)}

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self._journal.read_text().split()]

    def open(self) -> None:
        """Let through whoever waits now."""
        os.close(os.open(self._pipe, os.O_WRONLY))


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'worker.db')}"


@pytest.fixture(params=["redis", "rabbit"])
def broker_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def world(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[World]:
    settings = Settings.load(database_url=database_url, broker_url=broker_url)
    made = World(settings, tmp_path, _load("pipelines"))
    yield made
    made.close()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)
