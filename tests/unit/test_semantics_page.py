"""The semantics page shows the tables of moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow_engine.lifecycle import RUN_MOVES, STAGE_MOVES, to_mermaid

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"


@pytest.mark.parametrize(
    "diagram",
    [
        pytest.param(to_mermaid(RUN_MOVES, "PENDING"), id="run"),
        pytest.param(to_mermaid(STAGE_MOVES, "PENDING"), id="stage"),
    ],
)
def test_the_page_shows_the_diagram_of_the_tables(diagram: str) -> None:
    blocks = PAGE.read_text(encoding="utf-8").split("```")

    assert f"mermaid\n{diagram}\n" in blocks
