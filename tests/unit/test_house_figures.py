"""The figures of the structure count what they say, and modules do not import one another in a circle."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "house_figures.py"))


def make_package(folder: Path, **modules: str) -> Path:
    package = folder / "workflow_engine"
    package.mkdir()
    for name, source in modules.items():
        (package / f"{name}.py").write_text(source)
    return folder


def find_cycle(script: dict[str, Any], root: Path) -> list[str]:
    found: list[str] = script["find_cycle"]({script["name_of"](path, root): path for path in script["modules"](root)})
    return found


def test_modules_of_the_package_import_one_another_in_no_circle(script: dict[str, Any]) -> None:
    assert find_cycle(script, ROOT) == []


def test_a_circle_of_imports_is_found_and_one_for_type_checkers_is_none(script: dict[str, Any], tmp_path: Path) -> None:
    there = "from workflow_engine import there"
    here = "from workflow_engine.here import x"
    root = make_package(tmp_path, __init__="", here=there, there=here)
    assert {"workflow_engine.here", "workflow_engine.there"} <= set(find_cycle(script, root))

    (root / "workflow_engine" / "there.py").write_text(f"if TYPE_CHECKING:\n    {here}\n")
    assert find_cycle(script, root) == []


def test_code_lines_are_those_with_code_on_them(script: dict[str, Any]) -> None:
    source = '"""A docstring\n\nof three lines."""\n\n# A comment.\nx = [\n    1,  # one\n]\n\n\ndef f():\n    """Another."""\n    return """two\nlines"""\n'

    assert script["code_lines"](source) == {6, 7, 8, 11, 13, 14}


def test_places_are_files_that_state_a_rule(script: dict[str, Any], tmp_path: Path) -> None:
    root = make_package(tmp_path, __init__="", one="def f():\n    return run.paused_at is None", two="paused_at = 1")

    assert "files that state the admission rule (a paused run): 1" in list(script["figures"](root))
