"""What the documentation says of settings and commands is what the code has."""

from __future__ import annotations

import re
import runpy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from workflow_engine import RunHandle, WorkflowRuntime
from workflow_engine.settings import Settings

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def settings_script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "settings_table.py"))


def test_the_readme_has_the_settings_as_they_are(settings_script: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")

    assert settings_script["with_table"](readme) == readme, "run: python scripts/settings_table.py --write"


def test_every_setting_has_a_row_with_its_meaning(settings_script: dict[str, Any]) -> None:
    rows = settings_script["settings_table"]().splitlines()[2:]

    assert {f"`{name.upper()}`" for name in Settings.model_fields} <= {row.split("|")[1].strip() for row in rows}
    assert all(len(row.split("|")[3].strip()) > 10 for row in rows)


@pytest.mark.skipif(
    tuple(map(int, version("click").split(".")[:2])) < (8, 2), reason="spells the choices of an option otherwise"
)
def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    script = runpy.run_path(str(SCRIPTS / "cli_reference.py"))

    written = (ROOT / "docs" / "cli.md").read_text("utf-8")

    assert script["reference"]() == written, "run: python scripts/cli_reference.py --write"
    assert ": None" not in written


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "examples/document_analysis/README.md",
        "examples/shop/README.md",
        "docs/django-and-flask.md",
        "docs/architecture.md",
        "docs/cli.md",
        "docs/testing.md",
    ],
)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    path = ROOT / page

    broken = [
        target
        for target in LINK.findall(path.read_text("utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]

    assert broken == []


@pytest.mark.parametrize("page", ["README.md", "docs/django-and-flask.md", "docs/testing.md"])
def test_python_in_a_page_is_python(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)

    for block in blocks:
        compile(block, page, "exec")

    assert blocks


def test_a_block_of_python_in_the_readme_is_run_or_says_that_it_is_a_fragment() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"(<!-- example: .*? -->\n)?```python\n(.*?)```", readme, re.DOTALL)

    unmarked = [code for is_run, code in blocks if not is_run and not code.startswith("# A fragment: ")]

    assert unmarked == []
    assert [bool(is_run) for is_run, _ in blocks].count(True) == 1


def test_the_readme_names_every_method_of_a_handle_and_none_that_a_runtime_does_not_have() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme[readme.index("| of a run |") : readme.index("A stage is given by itself or by its id.")]
    named = set(re.findall(r"`(?:runtime\.)?([a-z_]+)[`(]", table))

    assert {name for name in vars(RunHandle) if not name.startswith("_")} <= named
    assert {name for name in named if not hasattr(WorkflowRuntime, name) and not hasattr(RunHandle, name)} == set()
