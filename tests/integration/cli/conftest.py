"""Commands in this process, on a database and a pipeline of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from workflow_engine.cli.errors import run_command
from workflow_engine.cli.main import cli
from workflow_engine.facade.runtime import WorkflowRuntime
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema

PIPELINE = """
from datetime import timedelta
from pydantic import BaseModel
from workflow_engine.definition import Retry, StageContext, WorkflowBuilder, stage

class Text(BaseModel):
    text: str
    fails: bool = False

class ShoutConfig(BaseModel):
    sign: str = "!"

@stage(name="Split words")
def split(ctx: StageContext[Text]) -> list[str]:
    ctx.log.info("splitting", length=len(ctx.input.text))
    return ctx.input.text.split()

@stage(retry=Retry(max_attempts=1))
def shout(ctx: StageContext[list[str], ShoutConfig]) -> str:
    if "fail" in ctx.input:
        raise ValueError("told to fail")
    return " ".join(ctx.input).upper() + ctx.config.sign

@stage
def count(ctx: StageContext[list[str]]) -> int:
    ctx.log.warning("counting")
    return len(ctx.input)

shouting = WorkflowBuilder("shouting", name="Shouting", input=Text).pipe(split).parallel(shout, count).build()
"""


@dataclass
class Finished:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Finished]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    (tmp_path / "shouting_pipeline.py").write_text(PIPELINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKFLOW_ENGINE_DATABASE_URL", f"sqlite:///{tmp_path / 'cli.db'}")
    monkeypatch.setenv("WORKFLOW_ENGINE_WORKFLOWS", "shouting_pipeline:shouting")
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> Finished:
        capsys.readouterr()
        code = run_command(lambda: cli.main([*arguments], prog_name="workflow-engine", standalone_mode=False))
        written = capsys.readouterr()
        return Finished(code, written.out, written.err)

    return run


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and nothing in them, to copy."""
    path = tmp_path_factory.mktemp("template") / "cli.db"
    database = Database(f"sqlite:///{path}")
    schema.upgrade(database)
    database.close()
    return path


@pytest.fixture
def database(template: Path, tmp_path: Path) -> Path:
    """The database of the commands, with tables."""
    return Path(shutil.copy(template, tmp_path / "cli.db"))


@pytest.fixture
def worker(command: Command, database: Path) -> Iterator[WorkflowRuntime]:
    """A worker on the database of the commands."""
    pipeline = import_module("shouting_pipeline")

    with WorkflowRuntime([pipeline.shouting], sweep_interval=timedelta(milliseconds=100)) as runtime:
        runtime.start(concurrency=2)
        yield runtime


@pytest.fixture
def run_id(command: Command, worker: WorkflowRuntime) -> str:
    """A run that has ended well."""
    run = worker.create_run("shouting", {"text": "hello big world"}, metadata={"user": "u-1"}, priority=8)
    run.wait(timeout=timedelta(seconds=30))
    return run.id


@pytest.fixture
def failed_id(command: Command, worker: WorkflowRuntime) -> str:
    """A run that has failed."""
    run = worker.create_run("shouting", {"text": "will fail"})
    with pytest.raises(Exception, match="told to fail"):
        run.wait(timeout=timedelta(seconds=30))
    return run.id
