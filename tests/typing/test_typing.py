"""What mypy --strict and pyright --strict infer from the definitions, and what they reject."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: One process runs each checker once.
pytestmark = [pytest.mark.long(40), pytest.mark.xdist_group("type checkers")]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ACCEPTED = sorted(HERE.glob("accepts_*.py"))
REJECTED = sorted(HERE.glob("rejects_*.py"))

#: Errors by line.
Report = dict[int, list[str]]

MYPY_LINE = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: (?P<message>.*)$", re.MULTILINE)


def mypy(folder: Path) -> dict[str, Report]:
    """Run mypy as a user without our settings and plugins would, on all files at once."""
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--no-pretty", f"--cache-dir={folder}"]
    environment = {**os.environ, "MYPYPATH": f"{ROOT}{os.pathsep}{HERE}"}
    files = [path.name for path in ACCEPTED + REJECTED]
    finished = subprocess.run(
        [*command, *files], cwd=HERE, env=environment, capture_output=True, text=True, check=False
    )
    if finished.returncode not in {0, 1} or finished.stderr:
        pytest.fail(f"mypy broke: {finished.stderr or finished.stdout}")
    errors = [(match["file"], int(match["line"]), match["message"]) for match in MYPY_LINE.finditer(finished.stdout)]
    return by_file(errors)


def pyright(folder: Path) -> dict[str, Report]:
    """Run pyright on copies, because it only reads files beside its settings."""
    for source in HERE.glob("*.py"):
        shutil.copy(source, folder)
    files = [path.name for path in ACCEPTED + REJECTED]
    settings = {"include": files, "extraPaths": [str(ROOT)], "typeCheckingMode": "strict"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(finished.stdout)
    except ValueError:
        pytest.fail(f"pyright broke: {finished.stderr or finished.stdout}")
    assert answer["summary"]["filesAnalyzed"] == len(files)
    errors = [
        (Path(diagnostic["file"]).name, diagnostic["range"]["start"]["line"] + 1, diagnostic["message"])
        for diagnostic in answer["generalDiagnostics"]
    ]
    return by_file(errors)


def by_file(errors: list[tuple[str, int, str]]) -> dict[str, Report]:
    reports: dict[str, Report] = {path.name: {} for path in ACCEPTED + REJECTED}
    for file, line, message in errors:
        reports.setdefault(file, {}).setdefault(line, []).append(message)
    return reports


@pytest.fixture(scope="module", params=[mypy, pyright], ids=lambda checker: checker.__name__)
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """What a checker says of each file."""
    found: dict[str, Report] = request.param(tmp_path_factory.mktemp("checked"))
    return found


def expected_lines(path: Path) -> set[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if "# expect-error" in line}


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_right_uses_are_accepted(reports: dict[str, Report], path: Path) -> None:
    report = reports[path.name]

    assert report == {}


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.stem)
def test_each_planted_mistake_is_reported(reports: dict[str, Report], path: Path) -> None:
    report = reports[path.name]

    missed = sorted(expected_lines(path) - report.keys())
    surplus = {line: messages for line, messages in report.items() if line not in expected_lines(path)}
    assert (missed, surplus) == ([], {})


def test_what_the_files_import_of_each_other_and_of_the_package_is_without_an_error(reports: dict[str, Report]) -> None:
    assert reports.keys() == {path.name for path in ACCEPTED + REJECTED}


def test_there_are_files_to_check() -> None:
    planted = [len(expected_lines(path)) for path in REJECTED]

    assert ACCEPTED
    assert sum(planted) > 20
