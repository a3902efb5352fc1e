"""The program that tries the lowest and the newest releases: what it installs, and that it does not hide a failure."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "try_releases.py"))


def test_every_dependency_has_a_lowest_release_to_try(program: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    found = [match[0] for match in program["read_requirements"]()]

    assert len(found) == len(project["dependencies"])
    assert all(line.startswith(text) for line, text in zip(project["dependencies"], found, strict=True))


def test_every_suite_that_it_runs_is_there(program: dict[str, Any]) -> None:
    files = [file for suite in program["SUITES"].values() for file in suite]

    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.fixture
def without_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["try_releases.py"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("without_arguments")
@pytest.mark.parametrize(("outcome", "code"), [("12 passed", 0), ("failed, see newest-unit.log: 1 failed", 1)])
def test_it_ends_with_an_error_when_one_suite_failed(
    program: dict[str, Any], capsys: pytest.CaptureFixture[str], outcome: str, code: int
) -> None:
    main = program["main"]
    outcomes = {"lowest": {"unit": "12 passed"}, "newest": {"unit": outcome}}
    main.__globals__["try_side"] = lambda side, _folder: outcomes[side]

    assert main() == code
    assert outcome in capsys.readouterr().out


def test_a_command_that_fails_is_a_failed_suite_and_its_output_is_kept(program: dict[str, Any], tmp_path: Path) -> None:
    log = tmp_path / "a.log"

    assert program["run"](["sh", "-c", "echo reason; exit 3"], log) is False
    assert log.read_text(encoding="utf-8") == "reason\n"
    assert program["run"](["true"], log) is True
