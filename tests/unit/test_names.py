"""Names that nothing has are answered with the nearest and the others, bounded."""

from __future__ import annotations

import pytest

from workflow_engine.names import among


@pytest.mark.parametrize(
    ("name", "known", "answer"),
    [
        ("extrct", ["extract", "classify"], ' (did you mean "extract"? stages: extract, classify)'),
        ("x", ["extract", "classify"], " (stages: extract, classify)"),
        ("x", [], " (stages: none)"),
        (None, ["extract"], " (stages: extract)"),
        (7, ["seven"], " (stages: seven)"),
    ],
)
def test_what_there_is_is_told(name: object, known: list[str], answer: str) -> None:
    assert among(name, known, kind="stages") == answer


def test_a_long_list_is_cut_but_the_nearest_is_still_named() -> None:
    answer = among("stage-98x", (f"stage-{number}" for number in range(100)), kind="stages")

    assert answer.startswith(' (did you mean "stage-98"? stages: stage-0, stage-1, ')
    assert answer.endswith("stage-19 and 80 more)")
