"""``db``, ``workflows``, ``sweep`` and ``prune``, and what every command refuses."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from workflow_engine.engine import SweepReport
from workflow_engine.facade.runtime import WorkflowRuntime

Command = Callable[..., Any]


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
    kept = command("prune", "--older-than", "1d")
    deleted = command("prune", "--older-than", "0s", "--status", "completed", "--yes")

    assert [finished.out for finished in (counted, kept, deleted)] == [
        "1 run would be deleted\n",
        "0 runs deleted\n",
        "1 run deleted\n",
    ]
    assert [run["id"] for run in command("runs", "list", "--json").json["items"]] == [failed_id]
    assert command("prune", "--older-than", "0s", "--status", "failed", "-y").out == "1 run deleted\n"


def test_what_has_just_ended_is_not_deleted_by_a_slip_where_nobody_can_be_asked(command: Command, run_id: str) -> None:
    refused = command("prune", "--older-than", "0d")

    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "Error: --older-than 0 ms would delete 1 run, also of the last day; add --yes if that is meant\n"
    )
    assert len(command("runs", "list", "--json").json["items"]) == 1


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "says"), [("y\n", "1 run deleted"), ("n\n", "Nothing was deleted")])
def test_on_a_terminal_a_deletion_is_asked_about(
    command: Command, run_id: str, monkeypatch: pytest.MonkeyPatch, answer: str, says: str
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))

    asked = command("prune", "--older-than", "0s")

    assert (asked.code, asked.out) == (0, f"{says}\n")
    assert "Delete 1 run for good?" in asked.err


def test_dev_without_workflows_says_how_to_name_them(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORKFLOW_ENGINE_WORKFLOWS")

    finished = command("dev")

    assert (finished.code, finished.out, finished.err.count("\n")) == (2, "", 1)
    assert "`workflow-engine dev shop.pipelines:fulfilment`" in finished.err
    assert "WORKFLOW_ENGINE_WORKFLOWS" in finished.err
    assert not (tmp_path / "cli.db").exists()
