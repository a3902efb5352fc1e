"""The last release and this version side by side on one database and one Redis, as in a rolling deploy."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.acceptance.worker.conftest import Worker
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema
from workflow_engine.store.upkeep.invariants import find_violations

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RELEASE = ROOT / "tests/releases/celery_workflow_engine-0.1.0-py3-none-any.whl"
PATIENCE = 120.0


@pytest.fixture(scope="module")
def installed_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel of the last release was installed into."""
    target = tmp_path_factory.mktemp("release")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", f"--target={target}", RELEASE],
        check=True,
        capture_output=True,
    )
    return target


class Side:
    """One of the two versions: its workers, and what creates runs with it."""

    def __init__(self, package: Path, directory: Path, settings: dict[str, str], app: str) -> None:
        self._app = app
        self._directory = directory
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_ENGINE_")},
            **settings,
            "PYTHONPATH": os.pathsep.join([str(package), str(HERE)]),
            "WORKFLOW_ENGINE_WORKFLOWS": "rolling:workflows",
        }
        self.workers: list[Worker] = []

    def start_worker(self) -> Worker:
        arguments = ["-A", self._app, "worker", "--loglevel=INFO", "--concurrency=2"]
        # Not in the folder of this version, which would come first on the path.
        worker = Worker(arguments, self._environment, self._directory, cwd=self._directory)
        self.workers.append(worker)
        wait_until(lambda: "ready." in worker.log or not worker.is_running(), worker)
        assert worker.is_running(), worker.log
        return worker

    def call(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self._environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def create_run(self, number: int, gate: Path) -> str:
        return self.call("-m", "rolling", str(number), str(gate))


def wait_until(is_true: Callable[[], object], *workers: Worker) -> None:
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while not is_true():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE} s in vain:\n" + "\n".join(worker.log[-4000:] for worker in workers))
        pause.wait(0.1)


class Deploy:
    """Both sides, and what the database says about their runs."""

    def __init__(self, release: Path, directory: Path, database_url: str, broker_url: str) -> None:
        settings = {
            "WORKFLOW_ENGINE_DATABASE_URL": database_url,
            "WORKFLOW_ENGINE_BROKER_URL": broker_url,
            "WORKFLOW_ENGINE_SWEEP_INTERVAL": "PT1S",
            "WORKFLOW_ENGINE_DISPATCH_SLACK": "PT2S",
            "WORKFLOW_ENGINE_SWEEP_IN_WORKERS": "always",
        }
        self.old = Side(release, directory, settings, "workflow_engine.worker.ready")
        self.new = Side(ROOT, directory, settings, "workflow_engine.worker.standalone")
        self.database = Database(database_url)
        self._directory = directory
        self._numbers = iter(range(1, 1000))
        self.expected: dict[str, int] = {}

    def create_run(self, side: Side, gate: str) -> str:
        number = next(self._numbers)
        run_id = side.create_run(number, self._directory / gate)
        self.expected[run_id] = number * 6
        return run_id

    def open(self, gate: str) -> None:
        (self._directory / gate).touch()

    def ask(self, query: str) -> list[Any]:
        return self.database.read(lambda tx: [tuple(row) for row in tx.execute(sa.text(query))])

    def wait(self, is_true: Callable[[], object]) -> None:
        wait_until(is_true, *self.old.workers, *self.new.workers)

    def wait_until_suspended(self, *run_ids: str) -> None:
        """Wait until only the batch of each run has not ended, whose first member has been retried by then."""
        query = (
            "SELECT run_id FROM workflow_stages GROUP BY run_id HAVING count(*) FILTER (WHERE status = 'COMPLETED') = 3"
        )
        self.wait(lambda: set(run_ids) <= {run_id for (run_id,) in self.ask(query)})

    def wait_until_completed(self, *run_ids: str) -> None:
        query = "SELECT id FROM workflow_runs WHERE status = 'COMPLETED'"
        self.wait(lambda: set(run_ids) <= {run_id for (run_id,) in self.ask(query)})

    def outputs(self) -> dict[str, int]:
        rows = self.ask("SELECT run_id, payload FROM workflow_outputs WHERE stage_id = 'double'")
        return {run_id: int(payload) for run_id, payload in rows}

    def close(self) -> None:
        for worker in self.old.workers + self.new.workers:
            worker.end()
        self.database.close()


@pytest.fixture
def deploy(installed_release: Path, tmp_path: Path, postgres_url: str, redis_url: str) -> Iterator[Deploy]:
    made = Deploy(installed_release, tmp_path, postgres_url, redis_url)
    yield made
    made.close()


def test_the_sides_are_what_they_are_called(deploy: Deploy) -> None:
    place = "import workflow_engine; print(workflow_engine.__file__)"

    assert not Path(deploy.old.call("-c", place)).is_relative_to(ROOT)
    assert Path(deploy.new.call("-c", place)).is_relative_to(ROOT)


@pytest.mark.long(50)
def test_runs_complete_whichever_version_began_created_or_executed_them(deploy: Deploy) -> None:
    deploy.old.call("-m", "workflow_engine.cli", "db", "upgrade")
    first = deploy.old.start_worker()
    begun = [deploy.create_run(deploy.old, "late") for _ in range(3)]
    deploy.wait_until_suspended(*begun)

    assert schema.upgrade(deploy.database) is True  # beside the worker
    deploy.open("at once")
    deploy.wait_until_completed(deploy.create_run(deploy.old, "at once"), deploy.create_run(deploy.new, "at once"))
    assert first.stop() == 0

    deploy.old.start_worker()  # again, on the schema of the new version
    deploy.wait_until_completed(deploy.create_run(deploy.old, "at once"), deploy.create_run(deploy.new, "at once"))

    deploy.new.start_worker()
    both = [deploy.create_run(side, "late") for side in (deploy.old, deploy.new, deploy.old, deploy.new)]
    deploy.wait_until_suspended(*both)
    deploy.open("late")
    deploy.wait_until_completed(*begun, *both)

    assert deploy.old.workers[-1].stop() == 0
    deploy.wait_until_completed(deploy.create_run(deploy.old, "at once"), deploy.create_run(deploy.new, "at once"))

    assert deploy.outputs() == deploy.expected
    assert find_violations(deploy.database, final=True) == {}
    assert schema.current_revision(deploy.database) == schema.HEAD
