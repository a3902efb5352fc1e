"""A team's project behaves alike with the engine and without it, also while both, or two releases, run side by side."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

pytestmark = pytest.mark.long(12)

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
WHEEL = next((ROOT / "tests" / "releases").glob("celery_workflow_engine-0.1.0-*.whl"))
PATIENCE = 120.0


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds the previous release, to be put first on the path."""
    directory = tmp_path_factory.mktemp("previous-release")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(directory), str(WHEEL)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return directory


class House:
    """The project on a broker, its processes, and its checks."""

    def __init__(self, broker_url: str, redis_url: str, directory: Path) -> None:
        self._directory = directory
        self._environment = {
            **os.environ,
            "HOUSE_BROKER_URL": broker_url,
            "HOUSE_REDIS_URL": redis_url,
            "WORKFLOW_ENGINE_DATABASE_URL": f"sqlite:///{directory / 'house.db'}",
            "WORKFLOW_ENGINE_SWEEP_INTERVAL": "PT1S",
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self.notes = redis.Redis.from_url(redis_url, decode_responses=True)

    def run(self, *command: str, has_guest: bool, release: Path | None = None, **environment: str) -> list[Any]:
        path = os.pathsep.join(str(entry) for entry in (release, HERE, ROOT) if entry is not None)
        return [
            [sys.executable, *command],
            {**self._environment, "PYTHONPATH": path, "HOUSE_HAS_GUEST": str(int(has_guest)), **environment},
        ]

    def start(self, *arguments: str, **options: Any) -> Path:
        """Start a Celery process and return its log."""
        log = self._directory / f"log-{time.monotonic_ns()}"
        command, environment = self.run("-m", "celery", "-A", "house", *arguments, **options)
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=file, cwd=self._directory, start_new_session=True
            )
        self._processes.append(process)
        return log

    def start_worker(self, *arguments: str, **options: Any) -> Path:
        name = f"--hostname=worker-{len(self._processes)}@house"
        log = self.start(
            "worker",
            "--loglevel=INFO",
            "--concurrency=2",
            "--without-mingle",
            "--without-gossip",
            name,
            *arguments,
            **options,
        )
        self.wait_for(log, " ready.")
        return log

    def start_beat(self, **options: Any) -> Path:
        return self.start("beat", "--loglevel=INFO", f"--schedule={self._directory / 'beat'}", **options)

    def wait_for(self, log: Path, text: str) -> None:
        deadline, pause = time.monotonic() + PATIENCE, 0.05
        while text not in log.read_text(errors="replace"):
            ended = [process.args for process in self._processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                pytest.fail(f"waited in vain for {text!r}; ended: {ended}\n{log.read_text(errors='replace')[-4000:]}")
            with suppress(subprocess.TimeoutExpired):
                self._processes[-1].wait(pause)

    def check(self, **options: Any) -> list[str]:
        """Run the project's own checks, which must pass, and return which they were."""
        pytest_ = [
            "-m",
            "pytest",
            "-q",
            "-rA",
            "--no-header",
            "--noconftest",
            "-c",
            os.devnull,
            "-p",
            "no:cacheprovider",
        ]
        options = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **options}  # those of this suite, which take time to import
        command, environment = self.run(*pytest_, str(HERE / "house_checks.py"), **options)
        done = subprocess.run(
            command,
            env=environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr + self.logs()
        return sorted(re.findall(r"(?m)^PASSED \S+", done.stdout))

    def logs(self) -> str:
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in self._directory.glob("log-*"))

    def complete_a_run(self, seconds: float = 0) -> dict[str, Any]:
        """Create a run from a process of the project's and return what it says of it at the end."""
        script = (
            "import json, datetime, house; run = house.runtime.create_run(house.outlasting, %r); "
            "run.wait(datetime.timedelta(seconds=90)); [stage] = run.list_stages(); "
            "print(json.dumps({'status': run.status, 'attempt': stage.attempt}))"
        )
        command, environment = self.run("-c", script % seconds, has_guest=True)
        done = subprocess.run(
            command, env=environment, cwd=self._directory, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:] + self.logs()
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def stop(self) -> None:
        while self._processes:
            process = self._processes.pop()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)

    def close(self) -> None:
        self.stop()
        self.notes.close()


@pytest.fixture(params=["redis", "rabbit"])
def broker_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def house(broker_url: str, redis_server: Any, tmp_path: Path) -> Iterator[House]:
    """The project on each broker that is supported; its results are on Redis."""
    made = House(broker_url, redis_server.claim_database(), tmp_path)
    yield made
    made.close()


def test_the_checks_of_the_project_pass_alike_with_the_engine_and_without_it(house: House) -> None:
    passed = []
    for has_guest in (False, True):
        house.start_worker(has_guest=has_guest)
        house.start_beat(has_guest=has_guest)
        passed.append(house.check(has_guest=has_guest))
        house.stop()

    assert passed[0] == passed[1] != []


def test_eager_checks_of_the_project_pass_alike_with_the_engine_and_without_it(house: House) -> None:
    passed = [house.check(has_guest=has_guest, HOUSE_EAGER="1") for has_guest in (False, True)]

    assert passed[0] == passed[1] != []


@pytest.mark.parametrize("has_worker_guest", [True, False])
def test_processes_with_and_without_the_engine_execute_each_other_s_tasks(
    house: House, *, has_worker_guest: bool
) -> None:
    house.start_worker(has_guest=has_worker_guest)
    house.start_beat(has_guest=not has_worker_guest)

    house.check(has_guest=not has_worker_guest)


@pytest.mark.parametrize("broker_url", ["redis"], indirect=True)  # the previous release knows no other
def test_a_worker_of_the_previous_release_may_run_beside(house: House, previous_release: Path) -> None:
    house.start_worker(has_guest=True, release=previous_release)
    house.start_worker(has_guest=True)
    house.start_beat(has_guest=True)

    house.check(has_guest=True)


@pytest.mark.parametrize("limits", [[], ["--time-limit=2", "--soft-time-limit=1"]], ids=["of the app", "of the worker"])
def test_nothing_that_the_project_says_for_its_tasks_acts_on_stages_and_sweeps(house: House, limits: list[str]) -> None:
    log = house.start_worker(*limits, has_guest=True)
    house.start_beat(has_guest=True)
    house.wait_for(log, "Task workflow_engine.sweep")

    assert house.complete_a_run(seconds=3.5) == {"status": "COMPLETED", "attempt": 1}

    noted = [entry for entry in house.notes.lrange("hooks", 0, -1) if "workflow_engine" in entry]
    assert noted == []
    assert "refused a message" not in log.read_text()


def test_a_worker_that_serves_none_of_the_engine_s_queues_says_so_and_nothing_else(house: House) -> None:
    log = house.start_worker("--queues=house", has_guest=True)

    said = [line for line in log.read_text().splitlines() if "workflow" in line and "WARNING" in line]
    assert len(said) == 1
    assert "consumes none of the engine's queues (workflow.control, workflow)" in said[0]
    assert "worker_prefetch_multiplier" not in log.read_text()


def test_a_worker_that_serves_the_engine_s_queues_warns_of_reserved_stages_with_the_line_that_mends_it(
    house: House,
) -> None:
    log = house.start_worker(has_guest=True)

    assert log.read_text().count("worker_prefetch_multiplier = 1") == 1


@pytest.mark.parametrize("has_guest", [True, False])
def test_beat_inside_a_worker_sends_the_project_s_entry(house: House, *, has_guest: bool) -> None:
    log = house.start_worker("--beat", f"--schedule={house._directory / 'beat'}", has_guest=has_guest)

    house.wait_for(log, "Task house.breathe")
    if has_guest:
        house.wait_for(log, "Sending due task workflow_engine.sweep")
