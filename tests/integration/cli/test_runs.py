"""``workflow-engine runs``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from workflow_engine.facade.runtime import WorkflowRuntime
from workflow_engine.ids import new_id

Command = Callable[..., Any]


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


def test_a_list_is_as_long_as_it_was_asked_for(command: Command, database: Path) -> None:
    created = command("runs", "create", "shouting", "--input", '{"text": "hi"}').out.strip()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM workflow_runs WHERE id = ?", [created]).fetchone())
        copies = [{**row, "id": new_id()} for _ in range(650)]
        connection.executemany(f"INSERT INTO workflow_runs VALUES ({', '.join(f':{name}' for name in row)})", copies)

    listed = command("runs", "list", "--limit", "1000", "--json")
    refused = command("runs", "list", "--limit", "1001")

    assert (len(listed.json["items"]), listed.json["next_cursor"]) == (651, None)
    assert (refused.code, "1<=x<=1000" in refused.err) == (2, True)


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


def test_logs_are_those_of_the_present_generation_unless_history_is_asked_for(command: Command, run_id: str) -> None:
    command("runs", "rerun", run_id, "--from-stage", "split", "--wait")

    present, everything = command("runs", "logs", run_id), command("runs", "logs", run_id, "--history")

    assert (present.out.count("splitting"), everything.out.count("splitting")) == (1, 2)


def test_artifacts_are_listed_and_written(command: Command, worker: WorkflowRuntime, run_id: str) -> None:
    nothing = command("runs", "artifacts", run_id)
    stage_run = worker.list_stages(run_id)[0].id
    row = f"('{run_id}', 'split', 'page', '[1]', '{stage_run}', 1, 1, 1), ('{run_id}', '', 'all', '2', '{stage_run}', 1, 1, 1)"
    worker.database.transact(lambda tx: tx.exec_driver_sql(f"INSERT INTO workflow_artifacts VALUES {row}"))

    listed = command("runs", "artifacts", run_id)
    own = command("runs", "artifacts", run_id, "page", "--stage", "split")
    command("runs", "rerun", run_id, "--from-stage", "split", "--wait")
    missing = command("runs", "artifacts", run_id, "all")
    before = command("runs", "artifacts", run_id, "all", "--generation", "0")
    history = command("runs", "artifacts", run_id, "--history", "--json")

    assert "No artifacts" in nothing.err
    assert [line.split()[:2] for line in listed.out.splitlines()[1:]] == [["(shared)", "all"], ["split", "page"]]
    assert (own.json, before.json, missing.code) == ([1], 2, 2)
    assert "has no artifact 'all'" in missing.err
    assert [(entry["key"], entry["is_live"]) for entry in history.json] == [("all", False), ("page", False)]


def test_a_rerun_can_be_asked_for_again(command: Command, worker: WorkflowRuntime, run_id: str) -> None:
    asked = ("runs", "rerun", run_id, "--from-stage", "shout", "--idempotency-key", "k", "--wait")

    first, second = command(*asked), command(*asked)
    refused = command("runs", "rerun", run_id, "--from-stage", "shout", "--generation", "0")

    assert (first.code, second.code, refused.code) == (0, 0, 2)
    assert "generation 1" in refused.err
    assert worker.get_run(run_id).snapshot().generation == 1


def test_a_fork_can_be_asked_for_again(command: Command, worker: WorkflowRuntime, run_id: str) -> None:
    asked = ("runs", "fork", run_id, "--from-stage", "shout", "--idempotency-key", "k")

    first, second = command(*asked), command(*asked)
    refused = command("runs", "fork", run_id, "--from-stage", "shout", "--generation", "3")

    assert first.out == second.out
    assert (refused.code, len(worker.list_runs().items)) == (2, 2)


def test_a_rerun_from_a_stage_that_is_not_there_is_refused(command: Command, run_id: str) -> None:
    finished = command("runs", "rerun", run_id, "--from-stage", "nothing")

    assert (finished.code, finished.err) == (
        2,
        'Error: Stage "nothing" not found in workflow "shouting" (stages: split, shout, count)\n',
    )


def test_a_fork_shares_what_came_before(command: Command, worker: WorkflowRuntime, run_id: str) -> None:
    finished = command(
        "runs", "fork", run_id, "--from-stage", "shout", "--config", '{"shout": {"sign": "."}}', "--wait"
    )

    assert finished.json["shout"] == "HELLO BIG WORLD."


def test_values_whose_names_say_that_they_are_secret_are_not_shown(
    command: Command, worker: WorkflowRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = command(
        *("runs", "create", "shouting", "--input", '{"text": "hi"}', "--metadata", "iban=DE89", "--metadata", "user=u"),
        *("--json", "--key", "k"),
    )
    run_id = created.json["id"]
    worker.get_run(run_id).wait()
    assert command("runs", "show", run_id, "--json").json["metadata"] == {"iban": "DE89", "user": "u"}

    monkeypatch.setenv("WORKFLOW_ENGINE_REDACT_KEYS", '["iban", "shout"]')

    hidden = {"iban": "[redacted]", "user": "u"}
    assert command("runs", "show", run_id, "--json").json["metadata"] == hidden
    assert command("runs", "list", "--json").json["items"][0]["metadata"] == hidden
    assert "DE89" not in command("runs", "show", run_id).out + command("runs", "list").out
    assert command("runs", "output", run_id).json == {"shout": "[redacted]", "count": 1}
    assert command("runs", "wait", run_id).json == {"shout": "[redacted]", "count": 1}
    assert command("runs", "output", run_id, "--reveal").json == {"shout": "HI!", "count": 1}
    assert command("workflows", "show", "shouting", "--json").json["config"]["shout"] == "[redacted]"
