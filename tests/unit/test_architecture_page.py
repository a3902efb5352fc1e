"""The page about the architecture names files that there are, every sub-room, and sketches that stay small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "workflow_engine"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
SKETCHES = PAGE.partition("## What the next things would touch")[2].partition("## Figures")[0]
REST = PAGE.replace(SKETCHES, "")
PATH = re.compile(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py)?)`( \(new)?")


def paths(text: str) -> list[tuple[str, bool]]:
    found = [(match[1], bool(match[2])) for match in PATH.finditer(text)]
    return [(path, is_new) for path, is_new in found if path.endswith(".py") or "/" in path]


@pytest.mark.parametrize("path", sorted({path for path, _ in paths(REST)}))
def test_a_path_on_the_page_is_there(path: str) -> None:
    assert (PACKAGE / path).exists() or (ROOT / path).exists()


def test_every_sub_room_is_on_the_page() -> None:
    rooms = {path.parent for path in PACKAGE.glob("*/*/*.py") if "migrations" not in path.parts}

    assert [str(room) for room in rooms if f"`{room.name}`" not in PAGE and room.parent.name != "cli"] == []


def test_a_sketch_changes_files_that_are_there_and_makes_those_that_are_not() -> None:
    named = paths(SKETCHES)

    assert [path for path, is_new in named if (PACKAGE / path).exists() == is_new] == []
    assert [path for path, is_new in named if is_new]


@pytest.mark.parametrize(("thing", "most"), [("signal", 6), ("schedule", 7), ("rate limit", 4), ("step", 4)])
def test_what_is_next_touches_few_files(thing: str, most: int) -> None:
    [row] = [line for line in SKETCHES.splitlines() if f"**{thing}**" in line]

    assert 1 < len(paths(row)) <= most
