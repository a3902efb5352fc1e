"""``workflow-engine doctor`` as a monitor calls it: what it prints, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from workflow_engine.cli.celery_command import workflow
from workflow_engine.cli.errors import run_command
from workflow_engine.cli.main import cli
from workflow_engine.definition.workflows.registry import as_registry
from workflow_engine.engine import Engine, sweep
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema
from workflow_engine.worker.app import create_app
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher

Doctor = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Doctor:
    monkeypatch.chdir(tmp_path)
    for name in ("WORKFLOWS", "DATABASE_URL", "BROKER_URL"):
        monkeypatch.delenv(f"WORKFLOW_ENGINE_{name}", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command(lambda: cli.main(["doctor", *arguments], prog_name="workflow-engine", standalone_mode=False))
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


@pytest.fixture
def swept_url(tmp_path: Path) -> str:
    """URL of a database that was swept just now."""
    url = f"sqlite:///{tmp_path / 'workflow.db'}"
    database = Database(url)
    schema.upgrade(database)
    settings = Settings.load(database_url=url)
    dispatcher = CeleryDispatcher(create_app(settings), settings)
    engine = Engine.build(settings=settings, registry=as_registry([]), dispatcher=dispatcher, database=database)
    sweep(engine)
    engine.close()
    return url


def test_a_healthy_engine_ends_with_0(doctor: Doctor, swept_url: str) -> None:
    code, out, err = doctor("--database-url", swept_url)

    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "healthy"
    assert "every invariant holds" in out


def test_an_engine_that_nobody_sweeps_ends_with_1(doctor: Doctor, swept_url: str) -> None:
    database = Database(swept_url)
    database.transact(lambda tx: tx.exec_driver_sql("UPDATE workflow_ticks SET last_at = 0"))
    database.close()

    code, out, _ = doctor("--database-url", swept_url)

    assert code == 1
    assert out.splitlines()[-1] == "degraded"


def test_json_is_for_machines(doctor: Doctor, swept_url: str) -> None:
    code, out, _ = doctor("--database-url", swept_url, "--json")
    answer: Any = json.loads(out)

    assert code == 0
    assert answer["health"] == "healthy"
    assert [finding["check"] for finding in answer["findings"]][:2] == ["database", "schema"]
    assert {frozenset(finding) for finding in answer["findings"]} == {
        frozenset({"check", "health", "message", "details"})
    }


def test_a_database_without_tables_ends_with_2_and_stays_without(doctor: Doctor, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    Path(tmp_path / "empty.db").touch()

    code, out, _ = doctor("--database-url", url)
    again, _, _ = doctor("--database-url", url)

    assert (code, again) == (2, 2)
    assert "workflow-engine db upgrade" in " ".join(out.split())


def test_a_database_that_is_not_there_ends_with_2_and_is_not_made(doctor: Doctor, tmp_path: Path) -> None:
    code, _, err = doctor("--database-url", f"sqlite:///{tmp_path / 'none.db'}")

    assert code == 2
    assert err.startswith("Error: There is no database at ")
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_does_not_answer_ends_with_2_without_its_password(doctor: Doctor) -> None:
    code, out, err = doctor("--database-url", "postgresql://me:hunter2@127.0.0.1:1/none")

    assert code == 2
    assert "does not answer" in " ".join(out.split())
    assert "hunter2" not in out + err


def test_a_broker_that_does_not_answer_ends_with_1(doctor: Doctor, swept_url: str) -> None:
    code, out, err = doctor("--database-url", swept_url, "--broker-url", "redis://:hunter2@127.0.0.1:1/0")

    assert code == 1
    assert "cannot be reached" in out
    assert "hunter2" not in out + err


@pytest.mark.parametrize(("last_at", "code"), [(None, 0), (0, 1)])
def test_under_celery_the_exit_codes_are_the_same(swept_url: str, last_at: int | None, code: int) -> None:
    if last_at is not None:
        database = Database(swept_url)
        database.transact(lambda tx: tx.exec_driver_sql(f"UPDATE workflow_ticks SET last_at = {last_at}"))
        database.close()

    finished = CliRunner().invoke(workflow, ["doctor", "--database-url", swept_url])

    assert finished.exit_code == code


def test_a_celery_app_is_asked_on_its_own_broker(doctor: Doctor, swept_url: str, tmp_path: Path) -> None:
    (tmp_path / "team.py").write_text(
        f"""
from celery import Celery
from workflow_engine import WorkflowRuntime

app = Celery("team", broker="redis://127.0.0.1:1/0", set_as_current=False)
app.conf.accept_content = ["json", "pickle"]
runtime = WorkflowRuntime(database_url={swept_url!r})
runtime.install(app)
"""
    )

    code, out, _ = doctor("--app", "team:app")

    assert code == 1
    assert "cannot be reached" in out
    assert "accept_content has pickle" in out
