"""The example of README.md, run as a newcomer would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"<!-- example: .*? -->\n```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    found = EXAMPLE.search((ROOT / "README.md").read_text("utf-8"))
    assert found is not None
    path = tmp_path / "analysis.py"
    path.write_text(found[1], "utf-8")
    return path


def run(*command: str, cwd: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_ENGINE_")}
    finished = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_example_prints_what_it_says(example: Path, tmp_path: Path) -> None:
    said = re.search(r"print\(.*\)  # (.*)", example.read_text("utf-8"))

    printed = run("analysis.py", cwd=tmp_path)

    assert said is not None
    assert printed == said[1] + "\n"


def test_the_commands_after_the_example_find_its_run(example: Path, tmp_path: Path) -> None:
    run("analysis.py", cwd=tmp_path)

    def command(*arguments: str) -> str:
        return run("-m", "workflow_engine.cli", *arguments, cwd=tmp_path, WORKFLOW_ENGINE_WORKFLOWS="analysis:analysis")

    (found,) = json.loads(command("runs", "list", "--json"))["items"]
    shown, drawn = command("runs", "show", found["id"]), command("workflows", "graph", "analysis")
    command("runs", "rerun", found["id"], "--from-stage", "merge")

    assert "COMPLETED" in shown
    assert "┌" in drawn
    assert json.loads(command("runs", "show", found["id"], "--json"))["generation"] == 1


def test_the_example_is_short(example: Path) -> None:
    assert len([line for line in example.read_text("utf-8").splitlines() if line.strip()]) <= 32
