"""``python -m document_analysis``: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from document_analysis.__main__ import main

PROJECT = Path(__file__).parents[1]
#: Seconds that a process may take before it counts as hanging: a loaded machine is no reason to fail.
HANGS = 300
DOCUMENT = "The loop ends when the condition is false. Loops repeat their suite."


@dataclass
class Finished:
    """What the command wrote, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Finished]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two documents and two files that are none."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "loop.rst").write_text(DOCUMENT)
    (documents / "café.txt").write_bytes("Un café, s'il vous plaît. Le café est très bon.".encode("cp1252"))
    (documents / "photo.png").write_bytes(b"\x89PNG\x00\x00")
    (documents / "empty.txt").touch()
    return documents


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, called in this process with a folder of its own as current one."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Finished:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return Finished(int(end.value.code or 0), written.out, written.err)

    return run


def test_it_reports_on_a_folder_and_keeps_the_runs(folder: Path, tmp_path: Path, command: Command) -> None:
    finished = command(folder, "--directory", "kept", "--summaries")

    assert (finished.code, finished.err) == (0, "")
    assert "\x1b" not in finished.out
    assert f"2 documents from {folder}; 2 files left out" in finished.out
    assert "left out: empty.txt (is empty), photo.png (is a binary file)" in finished.out
    assert "merge 2/2" in finished.out
    assert "control flow" in finished.out
    assert "runs show " in finished.out
    assert (tmp_path / "kept" / ".gitignore").read_text() == "*\n"
    with closing(sqlite3.connect(tmp_path / "kept" / "analysis.db")) as connection:
        counts = connection.execute("SELECT status, count(*) FROM workflow_runs GROUP BY status").fetchall()
    assert counts == [("COMPLETED", 2)]


def test_json_is_the_only_thing_on_standard_output(folder: Path, command: Command) -> None:
    finished = command(folder / "loop.rst", "--json")

    results = json.loads(finished.out)
    assert finished.code == 0
    assert [result["document"] for result in results] == ["loop.rst"]
    assert results[0]["report"]["category"] == "control flow"
    assert "Document analysis" in finished.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "No such file or folder: "),
        ("photo.png", "photo.png is a binary file"),
        ("empty.txt", "empty.txt is empty"),
    ],
)
def test_a_path_that_is_no_document_is_refused_before_anything_is_made(
    name: str, message: str, folder: Path, tmp_path: Path, command: Command
) -> None:
    finished = command(folder / name)

    assert finished.code == 2
    assert message in finished.err
    assert finished.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["documents"]


def test_an_empty_folder_is_refused(tmp_path: Path, command: Command) -> None:
    (tmp_path / "nothing").mkdir()

    finished = command("nothing")

    assert (finished.code, finished.err) == (2, "Error: No text files in nothing\n")


def test_a_place_that_cannot_be_written_is_refused(folder: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "file").touch()

    finished = command(folder, "--directory", "file")

    assert finished.code == 2
    assert "choose another place with --directory" in finished.err


def test_an_interrupted_analysis_says_how_its_runs_go_on(tmp_path: Path) -> None:
    packages = os.pathsep.join([str(PROJECT), str(PROJECT.parents[1])])
    with subprocess.Popen(
        [sys.executable, "-m", "document_analysis"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": packages, "PYTHONUNBUFFERED": "1"},
        # A shell makes the programs that it starts in the background ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no lock is held by a thread
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "merge 0/" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        written, errors = process.communicate(timeout=HANGS)

    assert (process.returncode, errors) == (130, "")
    assert "Stopped. The runs are in the database and go on with" in written
