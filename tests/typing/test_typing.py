"""What mypy --strict and pyright --strict infer from the definitions, and what they reject."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ACCEPTED = sorted(HERE.glob("accepts_*.py"))
REJECTED = sorted(HERE.glob("rejects_*.py"))

#: Errors by line.
Report = dict[int, list[str]]
Checker = Callable[[Path], Report]

MYPY_LINE = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: (?P<message>.*)$", re.MULTILINE)


def mypy(path: Path) -> Report:
    """Run mypy as a user without our settings and plugins would."""
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--no-pretty", str(path)]
    environment = {**os.environ, "MYPYPATH": f"{ROOT}{os.pathsep}{HERE}"}
    finished = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode not in {0, 1} or finished.stderr:
        pytest.fail(f"mypy broke: {finished.stderr or finished.stdout}")
    report: Report = {}
    for match in MYPY_LINE.finditer(finished.stdout):
        line = int(match["line"]) if match["file"] == path.name else 0
        report.setdefault(line, []).append(match["message"])
    return report


def pyright(path: Path, folder: Path) -> Report:
    """Run pyright on a copy, because it only reads files beside its settings."""
    for source in HERE.glob("*.py"):
        shutil.copy(source, folder)
    settings = {"include": [path.name], "extraPaths": [str(ROOT)], "typeCheckingMode": "strict"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(finished.stdout)
    except ValueError:
        pytest.fail(f"pyright broke: {finished.stderr or finished.stdout}")
    assert answer["summary"]["filesAnalyzed"] > 0
    report: Report = {}
    for diagnostic in answer["generalDiagnostics"]:
        line = diagnostic["range"]["start"]["line"] + 1 if Path(diagnostic["file"]).name == path.name else 0
        report.setdefault(line, []).append(diagnostic["message"])
    return report


@pytest.fixture(params=["mypy", "pyright"])
def check(request: pytest.FixtureRequest, tmp_path: Path) -> Checker:
    if request.param == "mypy":
        return mypy
    return lambda path: pyright(path, tmp_path)


def expected_lines(path: Path) -> set[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if "# expect-error" in line}


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_right_uses_are_accepted(check: Checker, path: Path) -> None:
    report = check(path)

    assert report == {}


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.stem)
def test_each_planted_mistake_is_reported(check: Checker, path: Path) -> None:
    report = check(path)

    missed = sorted(expected_lines(path) - report.keys())
    surplus = {line: messages for line, messages in report.items() if line not in expected_lines(path)}
    assert (missed, surplus) == ([], {})


def test_there_are_files_to_check() -> None:
    planted = [len(expected_lines(path)) for path in REJECTED]

    assert ACCEPTED
    assert sum(planted) > 20
