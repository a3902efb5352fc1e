"""The commands on a real database, in this process."""

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
from workflow_engine.engine import SweepReport
from workflow_engine.runtime import WorkflowRuntime
from workflow_engine.store import schema
from workflow_engine.store.database import Database

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


def test_reading_from_a_database_that_is_not_there_makes_none(command: Command, tmp_path: Path) -> None:
    finished = command("runs", "list")

    assert finished.code == 2
    assert finished.err.startswith("Error: There is no database at ")
    assert not (tmp_path / "cli.db").exists()


def test_the_schema_is_made_once_and_then_is_there(command: Command) -> None:
    outputs = [command("db", "upgrade").out, command("db", "upgrade").out, command("db", "check").out]

    assert ["is now at" in outputs[0], "was already at" in outputs[1], "is at revision" in outputs[2]] == [True] * 3


def test_a_check_of_an_empty_database_names_the_remedy(command: Command, tmp_path: Path) -> None:
    (tmp_path / "cli.db").touch()

    finished = command("db", "check")

    assert finished.code == 2
    assert "workflow-engine db upgrade" in finished.err


def test_an_empty_list_says_so_and_writes_nothing(command: Command, database: Path) -> None:
    finished = command("runs", "list")

    assert (finished.code, finished.out, finished.err) == (0, "", "No runs\n")


def test_a_run_is_created_and_waited_for(command: Command, worker: WorkflowRuntime) -> None:
    finished = command(
        "runs", "create", "shouting", "--input", '{"text": "hi"}', "--config", '{"shout": {"sign": "?"}}', "--wait"
    )

    assert finished.json == {"shout": "HI?", "count": 1}


def test_a_created_run_prints_its_id_and_the_same_key_gives_it_again(command: Command, database: Path) -> None:
    arguments = ("runs", "create", "shouting", "--input", '{"text": "hi"}', "--key", "k", "--metadata", "n=5")

    first, second = command(*arguments), command(*arguments)

    assert first.out == second.out
    assert len(first.out.strip()) == 36
    assert [run["id"] for run in command("runs", "list", "--json", "--metadata", "n=5").json["items"]] == [
        first.out.strip()
    ]


def test_input_that_does_not_fit_is_refused_with_its_path(command: Command, database: Path) -> None:
    finished = command("runs", "create", "shouting", "--input", "{}")

    assert finished.code == 2
    assert "text: Field required" in finished.err


def test_runs_are_listed_by_status_and_metadata(command: Command, run_id: str, failed_id: str) -> None:
    def listed(*arguments: str) -> list[str]:
        return [run["id"] for run in command("runs", "list", "--json", *arguments).json["items"]]

    assert listed() == [failed_id, run_id]
    assert listed("--status", "failed") == [failed_id]
    assert listed("--metadata", "user=u-1") == [run_id]
    assert listed("--workflow", "nothing") == []
    assert listed("--since", "1h") == [failed_id, run_id]


def test_a_list_goes_on_where_the_page_before_ended(command: Command, run_id: str, failed_id: str) -> None:
    first = command("runs", "list", "--limit", "1", "--json").json

    second = command("runs", "list", "--limit", "1", "--json", "--cursor", first["next_cursor"]).json

    assert [first["items"][0]["id"], second["items"][0]["id"]] == [failed_id, run_id]


def test_a_run_is_shown_with_its_stages(command: Command, run_id: str) -> None:
    finished = command("runs", "show", run_id)

    assert finished.code == 0
    assert "Shouting  ✓ COMPLETED" in finished.out
    assert all(name in finished.out for name in ("split", "shout", "count", "user=u-1"))
    assert [stage["status"] for stage in command("runs", "show", run_id, "--json").json["stages"]] == ["COMPLETED"] * 3


def test_a_failed_run_is_shown_with_its_error(command: Command, failed_id: str) -> None:
    finished = command("runs", "show", failed_id)

    assert "shout STAGE_ERROR  ValueError: told to fail" in finished.out


def test_a_run_that_is_not_there_is_an_error(command: Command, database: Path) -> None:
    finished = command("runs", "show", "nothing")

    assert (finished.code, finished.err) == (2, "Error: Run 'nothing' does not exist\n")


def test_outputs_are_json(command: Command, run_id: str) -> None:
    assert command("runs", "output", run_id).json == {"shout": "HELLO BIG WORLD!", "count": 3}
    assert command("runs", "output", run_id, "--stage", "split").json == ["hello", "big", "world"]


def test_waiting_for_a_failed_run_exits_with_1_and_its_error(command: Command, failed_id: str) -> None:
    finished = command("runs", "wait", failed_id)

    assert finished.code == 1
    assert "told to fail" in finished.err
    assert finished.out == ""


def test_waiting_has_an_end(command: Command, database: Path) -> None:
    created = command("runs", "create", "shouting", "--input", '{"text": "hi"}').out.strip()

    finished = command("runs", "wait", created, "--timeout", "10ms")

    assert finished.code == 124


def test_logs_are_written_in_order_and_by_stage(command: Command, run_id: str) -> None:
    everything, one = (
        command("runs", "logs", run_id, "--follow"),
        command("runs", "logs", run_id, "--stage", "count", "--json"),
    )

    assert "splitting  length=15" in everything.out
    assert [entry["message"] for entry in one.json_lines] == ["counting"]


def test_events_are_written_from_a_number_on(command: Command, run_id: str) -> None:
    everything = command("runs", "events", run_id, "--json", "--follow").json_lines

    rest = command("runs", "events", run_id, "--after", "2", "--json").json_lines

    assert [event["sequence"] for event in everything] == list(range(1, len(everything) + 1))
    assert rest == everything[2:]
    assert everything[-1]["type"] == "run.completed"


def test_a_run_is_cancelled(command: Command, database: Path) -> None:
    created = command("runs", "create", "shouting", "--input", '{"text": "hi"}').out.strip()

    finished = command("runs", "cancel", created, "--reason", "no need")

    assert finished.out.split() == [created, "⊘", "CANCELLED"]


def test_a_run_is_held_and_let_go(command: Command, database: Path) -> None:
    created = command("runs", "create", "shouting", "--input", '{"text": "hi"}').out.strip()

    held, going = command("runs", "pause", created), command("runs", "resume", created)

    assert held.out.endswith("‖ paused\n")
    assert "paused" not in going.out


def test_a_failed_run_is_run_again_from_a_stage(command: Command, worker: WorkflowRuntime, run_id: str) -> None:
    finished = command("runs", "rerun", run_id, "--from-stage", "shout", "--wait")

    assert finished.json["shout"] == "HELLO BIG WORLD!"
    assert command("runs", "show", run_id, "--json").json["generation"] == 1
    assert len(command("runs", "show", run_id, "--history", "--json").json["stages"]) == 5


def test_a_rerun_from_a_stage_that_is_not_there_is_refused(command: Command, run_id: str) -> None:
    finished = command("runs", "rerun", run_id, "--from-stage", "nothing")

    assert (finished.code, finished.err) == (2, 'Error: Stage "nothing" not found in workflow "shouting"\n')


def test_a_fork_shares_what_came_before(command: Command, worker: WorkflowRuntime, run_id: str) -> None:
    finished = command(
        "runs", "fork", run_id, "--from-stage", "shout", "--config", '{"shout": {"sign": "."}}', "--wait"
    )

    assert finished.json["shout"] == "HELLO BIG WORLD."


def test_workflows_are_listed_shown_and_drawn_without_a_database(command: Command, tmp_path: Path) -> None:
    listed, shown = command("workflows", "list"), command("workflows", "show", "shouting")
    drawn, mermaid = (
        command("workflows", "graph", "shouting"),
        command("workflows", "graph", "shouting", "--format", "mermaid"),
    )

    assert "split → shout + count" in listed.out
    assert "list[str] → str" in shown.out
    assert "│ Split words │" in drawn.out
    assert mermaid.out.startswith("flowchart")
    assert not (tmp_path / "cli.db").exists()


def test_a_workflow_is_held_and_let_go(command: Command, database: Path) -> None:
    created = command("runs", "create", "shouting", "--input", '{"text": "hi"}').out.strip()

    command("workflows", "pause", "shouting")
    held = command("runs", "show", created, "--json").json
    command("workflows", "resume", "shouting")

    assert held["workflow_paused"] is True
    assert command("runs", "show", created, "--json").json["workflow_paused"] is False


def test_a_sweep_tells_what_it_did(command: Command, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_DISPATCH_SLACK", "0.001")
    idle = command("sweep")
    command("runs", "create", "shouting", "--input", '{"text": "hi"}')

    busy = command("sweep", "--json")

    assert idle.out == "Nothing to repair\n"
    assert (busy.code, busy.json["errors"], busy.json["skipped"]) == (0, {}, False)


def test_a_step_of_the_sweep_that_fails_is_told(
    command: Command, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = SweepReport(repaired={"dispatched": 2}, errors={"expired leases": "no\nluck"})
    monkeypatch.setattr(WorkflowRuntime, "sweep", lambda *_, **__: broken)

    finished = command("sweep")

    assert (finished.code, finished.out, finished.err) == (
        2,
        "dispatched 2\n",
        "Error: expired leases failed: no luck\n",
    )


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("no_such_module:x", "There is no module 'no_such_module'"),
        ("shouting_pipeline:nothing", "has no 'nothing'"),
        ("shouting_pipeline", "is not package.module:attribute"),
        ("json:loads", "function"),
    ],
)
def test_workflows_that_cannot_be_found_are_an_error_of_one_line(command: Command, app: str, message: str) -> None:
    finished = command("workflows", "list", "--app", app)

    assert finished.code == 2
    assert message in finished.err
    assert finished.err.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    ["nonsense", "oracle://u:hunter2@h/x", "postgresql://u:hunter2@127.0.0.1:1/x", "postgresql://u:hunter2@h:port/x"],
)
def test_a_database_that_cannot_be_reached_is_an_error_without_its_password(command: Command, url: str) -> None:
    finished = command("runs", "list", "--database-url", url)

    assert finished.code == 2
    assert finished.err.startswith("Error: ")
    assert finished.err.count("\n") == 1
    assert "hunter2" not in finished.err
    assert "Traceback" not in finished.err


def test_ended_runs_are_counted_then_deleted_and_others_are_kept(command: Command, run_id: str, failed_id: str) -> None:
    counted = command("prune", "--older-than", "0s", "--dry-run")
    kept = command("prune", "--older-than", "1h")
    deleted = command("prune", "--older-than", "0s", "--status", "completed")

    assert [finished.out for finished in (counted, kept, deleted)] == [
        "1 run would be deleted\n",
        "0 runs deleted\n",
        "1 run deleted\n",
    ]
    assert [run["id"] for run in command("runs", "list", "--json").json["items"]] == [failed_id]
    assert command("prune", "--older-than", "0s", "--status", "failed").out == "1 run deleted\n"
