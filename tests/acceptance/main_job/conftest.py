"""A fleet: real workers and beat as processes, on a real PostgreSQL and a real broker of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from document_analysis.workflow import document_analysis
from workflow_engine.facade.runtime import WorkflowRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workflow_engine.definition import Workflow
    from workflow_engine.testing.services import PostgresServer

    AnyWorkflow = Workflow[Any, Any]

ROOT = Path(__file__).parents[3]
APP = "workflow_engine.worker.standalone"
PATIENCE = 240.0


class Fleet:
    """Celery processes that share a database and a broker, and a runtime that starts runs on them."""

    def __init__(self, urls: tuple[str, str], directory: Path, workflow: AnyWorkflow, name: str, path: Path) -> None:
        database_url, broker_url = urls
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(path)]),
            "WORKFLOW_ENGINE_DATABASE_URL": database_url,
            "WORKFLOW_ENGINE_BROKER_URL": broker_url,
            "WORKFLOW_ENGINE_WORKFLOWS": name,
        }
        self.runtime = WorkflowRuntime([workflow], database_url=database_url, broker_url=broker_url)

    def start_worker(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        return self.start("worker", "--loglevel=INFO", *arguments, **settings)

    def start_beat(self, **settings: str) -> subprocess.Popen[bytes]:
        return self.start("beat", "--loglevel=INFO", "--scheduler=celery.beat:Scheduler", **settings)

    def celery(self, *arguments: str) -> str:
        """Run a Celery command to its end and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", APP, *arguments],
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=self._directory,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout

    def wait_until(self, is_true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        pause = threading.Event()
        while not is_true():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {PATIENCE} s in vain until {what}\n{self.logs()[-6000:]}")
            pause.wait(0.05)

    def wait_until_ready(self, count: int = 1) -> None:
        self.wait_until(lambda: self.logs().count(" ready.") >= count, f"{count} workers are ready")

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._directory.glob("celery-*.log")))

    def stop(self) -> list[int]:
        """Ask every process to end, as a deployment does, and return their exit codes."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(PATIENCE) for process in self._processes]
        self._processes.clear()
        return codes

    def close(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
        self.runtime.close()

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        extra = {f"WORKFLOW_ENGINE_{name.upper()}": value for name, value in settings.items()}
        log = self._directory / f"celery-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", APP, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self._environment, **extra},
                cwd=self._directory,
                start_new_session=True,
            )
        self._processes.append(process)
        return process


@pytest.fixture
def broker_url(redis_url: str) -> str:
    return redis_url


@pytest.fixture
def fleet_of(
    postgres_server: PostgresServer, migrated_postgres: str, broker_url: str, tmp_path: Path
) -> Iterator[Callable[[AnyWorkflow, str, Path], Fleet]]:
    """Makes a fleet for a workflow, the name that workers import it by, and the folder they look in."""
    url = postgres_server.create_database(template=migrated_postgres)
    made: list[Fleet] = []

    def make(workflow: AnyWorkflow, name: str, path: Path) -> Fleet:
        made.append(Fleet((url, broker_url), tmp_path, workflow, name, path))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
    postgres_server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def fleet(fleet_of: Callable[[AnyWorkflow, str, Path], Fleet]) -> Fleet:
    """A fleet for the analysis of documents."""
    project = ROOT / "examples" / "document_analysis"
    return fleet_of(document_analysis, "document_analysis.workflow:document_analysis", project)
