"""The demo: a workflow over text files, a database of its own, a report, and a way to go on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workflow_engine import demo
from workflow_engine.cli.commands import demo as demo_command

Command = Callable[..., Any]
TEXT = "The loop ends when the condition is false. Loops repeat the condition."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two texts and files that are none."""
    (tmp_path / "documents" / "deep").mkdir(parents=True)
    documents = tmp_path / "documents"
    (documents / "loop.txt").write_text(TEXT)
    (documents / "deep" / "café.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    (documents / ".hidden").write_text(TEXT)
    (documents / "photo.png").write_bytes(b"\x89PNG\x00\x00")
    (documents / "zeros.txt").write_bytes(b"a\0b")
    (documents / "empty.txt").write_text(" \n")
    return documents


def test_a_folder_is_read_and_its_runs_are_reported(folder: Path, command: Command) -> None:
    finished = command("demo", str(folder))

    assert (finished.code, finished.err) == (0, "")
    assert "each of 2 documents" in finished.out
    assert "│ count │   │ find_words" in finished.out
    assert re.search(r"loop\.txt +12 +easy +1 min +condition, repeat", finished.out)
    assert "deep/café.txt" in finished.out
    assert "2 runs with 10 attempts and 6 polls" in finished.out
    assert "2 attempts: the dictionary" in finished.out


def test_the_commands_that_the_demo_names_work(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = command("demo", str(folder), "--database", "kept.db").out.splitlines()

    for line in printed:
        if variable := re.fullmatch(r"  (?:export )?([A-Z_]+)=(\S+)", line):
            monkeypatch.setenv(*variable.groups())
    called = [
        os.path.expandvars(line.partition("#")[0]).split()[1:] for line in printed if "  workflow-engine " in line
    ]
    commands = [words for words in called if words != ["dev"]]
    results = [command(*words) for words in commands]

    assert [words[:2] for words in commands] == [["runs", name] for name in ("list", "show", "artifacts", "rerun")]
    assert [result.code for result in results] == [0, 0, 0, 0]
    assert "2 COMPLETED" in results[0].out
    assert "about condition, repeat" in results[2].out


def test_a_long_table_ends_with_the_number_of_other_documents(folder: Path, command: Command) -> None:
    for number in range(15):
        (folder / f"a{number:02}.txt").write_text(TEXT)

    finished = command("demo", str(folder))

    assert "a14.txt" in finished.out
    assert "loop.txt" not in finished.out
    assert "and 2 more" in finished.out


def test_a_failed_run_is_named_and_is_exit_code_1(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_words(text: str) -> list[str]:
        raise ValueError("no words today")

    monkeypatch.setattr(demo, "words_of", lose_words)

    finished = command("demo", str(folder / "loop.txt"))

    assert finished.code == 1
    assert "loop.txt FAILED: " in finished.out
    assert "no words today" in finished.out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "Cannot read nothing: No such file or directory"),
        ("documents/photo.png", "documents/photo.png is no UTF-8 text"),
        ("documents/zeros.txt", "documents/zeros.txt is no UTF-8 text"),
        ("documents/empty.txt", "documents/empty.txt is empty"),
        ("void", "No text files in void"),
    ],
)
def test_a_path_without_texts_is_refused_on_one_line_before_anything_is_made(
    name: str, message: str, folder: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "void").mkdir()

    finished = command("demo", name)

    assert (finished.code, finished.out, finished.err) == (2, "", f"Error: {message}\n")
    assert list(tmp_path.glob("*.db")) == []


def test_a_file_that_is_too_large_is_refused(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_command, "_MOST_BYTES", 10)

    assert command("demo", str(folder / "loop.txt")).err.endswith("loop.txt is larger than 0 MiB\n")


def test_a_pipe_is_left_out_and_does_not_block(folder: Path, command: Command) -> None:
    os.mkfifo(folder / "pipe")

    assert "each of 2 documents" in command("demo", str(folder)).out


def test_a_database_that_cannot_be_written_is_refused(folder: Path, command: Command) -> None:
    finished = command("demo", str(folder), "--database", "nowhere/demo.db")

    assert (finished.code, finished.err.count("\n")) == (2, 1)
    assert "name another with --database" in finished.err


def test_the_source_of_the_demo_fits_on_a_few_screens() -> None:
    assert Path(demo.__file__).read_text("utf-8").count("\n") <= 150
