"""The command line as a process: what a shell sees of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "workflow_engine.cli"]
WORKFLOW = "workflow_engine.demo:reading"
#: Seconds that a process may take before it counts as hanging: a loaded machine is no reason to fail.
HANGS = 300
DOCUMENT = '{"name": "cat", "text": "The cat sat. On the mat."}'


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_ENGINE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "WORKFLOW_ENGINE_DATABASE_URL": f"sqlite:///{tmp_path / 'cli.db'}"}


def run(*arguments: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=dict(env), capture_output=True, text=True, timeout=HANGS, check=False
    )


def hear_interrupts() -> None:
    """Undo what a shell does to the programs that it starts in the background: they ignore SIGINT, and so do their own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def dev(tmp_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """``workflow-engine dev``, ready."""
    with subprocess.Popen(
        [*COMMAND, "dev", WORKFLOW, "--concurrency", "2"],
        cwd=tmp_path,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - nothing of this process runs in a thread that holds a lock
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            while "Ctrl-C stops" not in process.stdout.readline():
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def test_the_demo_without_a_terminal_writes_plain_lines(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "notes.txt").write_text("The loop ends when the condition is false. Loops repeat their suite.")

    finished = run("demo", "notes.txt", cwd=tmp_path, env=environment)

    assert (finished.returncode, finished.stderr) == (0, "")
    assert "\x1b" not in finished.stdout
    assert "report 1/1" in finished.stdout
    assert "condition" in finished.stdout
    assert (tmp_path / "workflow_engine_demo.db").is_file()
    assert not (tmp_path / "cli.db").exists()


def test_an_interrupted_demo_says_how_its_runs_go_on(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "demo"],
        cwd=tmp_path,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - nothing of this process runs in a thread that holds a lock
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "report 0/" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        written, errors = process.communicate(timeout=HANGS)

    assert process.returncode == 130
    assert "Stopped. The runs are in the database and go on with" in written
    assert errors.split() == ["Interrupted"]


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, environment: dict[str, str]) -> None:
    finished = run("runs", "show", cwd=tmp_path, env=environment)

    assert (finished.returncode, finished.stdout, finished.stderr) == (2, "", "Error: Missing argument 'RUN'.\n")


def test_dev_executes_what_another_process_creates_and_stops_cleanly(
    tmp_path: Path, environment: dict[str, str], dev: subprocess.Popen[str]
) -> None:
    created = run(
        "runs",
        "create",
        "reading",
        "--app",
        WORKFLOW,
        "--input",
        DOCUMENT,
        "--wait",
        cwd=tmp_path,
        env=environment,
    )

    dev.send_signal(signal.SIGINT)
    code = dev.wait(timeout=HANGS)

    assert created.returncode == 0, created.stderr
    assert '"name": "cat"' in created.stdout
    assert code == 0


def test_worker_is_a_celery_worker_for_the_workflows_named(
    tmp_path: Path, environment: dict[str, str], redis_url: str
) -> None:
    connected = {**environment, "WORKFLOW_ENGINE_BROKER_URL": redis_url}
    run("db", "upgrade", cwd=tmp_path, env=connected)
    with subprocess.Popen(
        [*COMMAND, "worker", "--app", WORKFLOW, "--pool", "threads", "--concurrency", "2", "--loglevel", "warning"],
        cwd=tmp_path,
        env=connected,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            created = run(
                "runs", "create", "reading", "--app", WORKFLOW, "--input", DOCUMENT, "--wait",
                cwd=tmp_path, env=connected,
            )  # fmt: skip
        finally:
            process.terminate()
            code = process.wait(timeout=HANGS)

    assert '"name": "cat"' in created.stdout
    assert code == 0


def test_a_reader_that_stops_reading_is_no_traceback(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "workflows", "show", "reading", "--json", "--app", WORKFLOW],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(timeout=HANGS)

    assert errors == ""
