"""The demo: documents through the whole workflow, on a database of its own."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from workflow_engine.cli.commands.demo import demo
from workflow_engine.cli.errors import run_command
from workflow_engine.clock import SystemClock
from workflow_engine.demo.documents import Collection, SourceDocument
from workflow_engine.demo.session import DemoSession, count_categories, median_duration
from workflow_engine.lifecycle import RunStatus

WHILE = """
The "while" statement
*********************

The "while" statement is used for repeated execution as long as an expression is true. The loop tests the
expression and, if it is true, executes the first suite. If the expression is false, the suite of the "else" clause,
if present, is executed and the loop terminates.

   while_stmt ::= "while" assignment_expression ":" suite

A "break" statement executed in the first suite terminates the loop without executing the "else" clause.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two documents and two files that are none."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "while.rst").write_text(WHILE)
    (documents / "café.txt").write_bytes("Un café, s'il vous plaît. Le café est très bon.".encode("cp1252"))
    (documents / "photo.png").write_bytes(b"\x89PNG\x00\x00")
    (documents / "empty.txt").touch()
    return documents


def run_demo(*arguments: object) -> int:
    return run_command(lambda: demo.main([str(a) for a in arguments], prog_name="demo", standalone_mode=False))


def finish(session: DemoSession) -> None:
    with session.runtime as runtime:
        runtime.start(concurrency=2)
        for run_id in session.run_ids.values():
            runtime.get_run(run_id).wait(timeout=timedelta(seconds=60))


def test_a_document_goes_through_every_stage(tmp_path: Path) -> None:
    session = DemoSession(tmp_path / "demo.db", Collection("here", (SourceDocument("while.rst", WHILE),)))

    session.create_runs()
    finish(session)

    (result,) = session.results()
    report = result.report
    assert report is not None
    assert (report.name, report.title, report.category) == ("while.rst", 'The "while" statement', "control flow")
    assert (report.sentence_count, report.paragraph_count, report.code_lines) == (4, 2, 1)
    assert "suite" in report.keywords
    assert len(report.summary) == 2
    assert 0 < report.readability.reading_ease < 100
    assert result.attempts == 6
    assert result.polls >= 2
    assert result.suspended >= timedelta(seconds=1)


def test_progress_goes_from_nothing_to_everything(tmp_path: Path) -> None:
    documents = tuple(SourceDocument(f"{number}.rst", WHILE) for number in range(3))
    session = DemoSession(tmp_path / "demo.db", Collection("here", documents))

    session.create_runs()
    before = session.progress()
    finish(session)
    after = session.progress()

    assert (before.passed, before.ended, before.is_complete) == ((0, 0, 0, 0), 0, False)
    assert (after.passed, after.waiting, after.ended, after.is_complete) == ((3, 3, 3, 3), (0, 0, 0, 0), 3, True)
    assert len(list((tmp_path / "readability_service").glob("*.json"))) == 3
    assert count_categories(session.results()) == [("control flow", 3)]
    assert (median_duration(session.results()) or timedelta(0)) > timedelta(seconds=1)


def test_a_document_that_waits_is_counted_as_waiting(tmp_path: Path) -> None:
    session = DemoSession(tmp_path / "demo.db", Collection("here", (SourceDocument("while.rst", WHILE),)))
    session.create_runs()

    with session.runtime as runtime:
        runtime.start(concurrency=2)
        run = runtime.get_run(session.run_ids["while.rst"])
        while run.status is not RunStatus.SUSPENDED:
            SystemClock().sleep(timedelta(milliseconds=20))
        progress = session.progress()

    assert progress.passed == (1, 1, 0, 0)
    assert progress.waiting == (0, 0, 1, 0)


def test_the_command_reports_on_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_demo(folder, "--directory", tmp_path / "demo", "--summaries")

    written = capsys.readouterr()
    assert (code, written.err) == (0, "")
    unwrapped = "".join(written.out.split())  # a long path is wrapped, wherever the line ends
    assert f"2documentsfrom{folder};2filesleftout" in unwrapped
    assert "left out: empty.txt (is empty), photo.png (is a binary file)" in written.out
    assert "while.rst" in written.out
    assert "control flow" in written.out
    assert "runs show " in written.out
    assert (tmp_path / "demo" / ".gitignore").read_text() == "*\n"


def test_the_database_that_the_command_names_has_the_runs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_demo(folder, "--directory", tmp_path / "demo")

    named = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("database")).split()[1]
    with sqlite3.connect(named) as connection:
        assert connection.execute("SELECT status, count(*) FROM workflow_runs GROUP BY status").fetchall() == [
            ("COMPLETED", 2)
        ]
    connection.close()


def test_json_is_the_only_thing_on_standard_output(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_demo(folder / "while.rst", "--directory", tmp_path / "demo", "--json")

    written = capsys.readouterr()
    results: list[dict[str, Any]] = json.loads(written.out)
    assert code == 0
    assert [result["document"] for result in results] == ["while.rst"]
    assert results[0]["report"]["category"] == "control flow"
    assert "Document analysis" in written.err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "nothing", "No such file or folder: "),
        (lambda path: path / "photo.png", "photo.png is a binary file"),
        (lambda path: path / "empty.txt", "empty.txt is empty"),
    ],
)
def test_a_path_that_is_no_document_is_refused_before_anything_is_made(
    make: Any, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_demo(make(folder), "--directory", tmp_path / "demo")

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "demo").exists()


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()

    code = run_demo(tmp_path / "empty", "--directory", tmp_path / "demo")

    assert code == 2
    assert capsys.readouterr().err == f"Error: No text files in {tmp_path / 'empty'}\n"


def test_a_place_that_cannot_be_written_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    code = run_demo(folder, "--directory", tmp_path / "file")

    assert code == 2
    assert "choose another place with --directory" in capsys.readouterr().err
