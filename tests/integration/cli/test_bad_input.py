"""Bad input on the command line: exit code 2, one line that says what is wrong, no traceback, no password."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

UNKNOWN = "01a20000-0000-7000-8000-000000000000"

REFUSED: dict[str, tuple[list[str], str]] = {
    "a database URL that is none": (["--database-url", "nonsense", "runs", "list"], "database URL"),
    "a database of another kind": (["--database-url", "mysql://me:hunter2@db/x", "runs", "list"], "not supported"),
    "a server that is not there": (
        ["--database-url", "postgresql://me:hunter2@127.0.0.1:1/x", "runs", "list"],
        "does not answer",
    ),
    "a module that is not there": (["--app", "no_such_module:x", "workflows", "list"], "no_such_module"),
    "an attribute that is not there": (["--app", "shouting_pipeline:x", "workflows", "list"], "x"),
    "an app without attribute": (["--app", "shouting_pipeline", "workflows", "list"], "package.module:attribute"),
    "an app that is no workflow": (["--app", "os:sep", "workflows", "list"], "workflow"),
    "a command that is not there": (["rnus"], "rnus"),
    "a workflow that is not there": (["runs", "create", "shuoting", "--input", '{"text": "a"}'], "shouting"),
    "input that is no JSON": (["runs", "create", "shouting", "--input", "{text}"], "not JSON"),
    "input nested without end": (["runs", "create", "shouting", "--input", "[" * 100_000], "JSON"),
    "input of NaN": (["runs", "create", "shouting", "--input", '{"text": NaN}'], "text"),
    "input that does not fit": (["runs", "create", "shouting", "--input", "[]"], "input"),
    "an input file that is not there": (["runs", "create", "shouting", "--input", "@none.json"], "none.json"),
    "an input file that is a folder": (["runs", "create", "shouting", "--input", "@."], "cannot read"),
    "config for an unknown stage": (
        ["runs", "create", "shouting", "--input", '{"text": "a"}', "--config", '{"shuot": {}}'],
        "shout",
    ),
    "config that is a list": (["runs", "create", "shouting", "--input", '{"text": "a"}', "--config", "[]"], "config"),
    "a priority out of range": (["runs", "create", "shouting", "--input", '{"text": "a"}', "--priority", "11"], "10"),
    "a priority that is no number": (
        ["runs", "create", "shouting", "--input", '{"text": "a"}', "--priority", "high"],
        "high",
    ),
    "metadata without value": (["runs", "create", "shouting", "--input", '{"text": "a"}', "--metadata", "a"], "key="),
    "an empty key": (["runs", "create", "shouting", "--input", '{"text": "a"}', "--key", ""], "idempotency_key"),
    "a run that is not there": (["runs", "show", UNKNOWN], UNKNOWN),
    "an id that is none": (["runs", "show", "'; DROP TABLE workflow_runs; --"], "DROP"),
    "an endless id": (["runs", "show", "x" * 10_000], "xxx"),
    "half a surrogate pair as id": (["runs", "show", "\udcff"], "does not exist"),
    "a run to cancel that is not there": (["runs", "cancel", UNKNOWN], UNKNOWN),
    "a run to rerun that is not there": (["runs", "rerun", UNKNOWN, "--from-stage", "shout"], UNKNOWN),
    "a status that is none": (["runs", "list", "--status", "DONE"], "COMPLETED"),
    "a limit that is no number": (["runs", "list", "--limit", "many"], "many"),
    "an age that is none": (["prune", "--older-than", "soon"], "soon"),
    "a doctor without patience": (["doctor", "--patience", "soon"], "soon"),
}


def count_runs(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM workflow_runs").fetchone()[0])


@pytest.mark.parametrize(("arguments", "word"), REFUSED.values(), ids=REFUSED)
def test_bad_input_ends_with_2_and_one_line(command: Command, database: Path, arguments: list[str], word: str) -> None:
    finished = command(*arguments)

    lines = finished.err.strip().splitlines()
    assert finished.code == 2
    assert finished.out == ""
    assert len(lines) == 1
    assert word.lower() in lines[0].lower()
    assert len(lines[0]) <= 1100
    assert "hunter2" not in finished.err
    assert "Traceback" not in finished.err
    assert count_runs(database) == 0
