"""Names of queues follow one rule; names that nothing has are answered with the nearest and the others, bounded."""

from __future__ import annotations

import pytest

from workflow_engine.definition.checks import check_queue
from workflow_engine.errors import ConfigurationError
from workflow_engine.names import among
from workflow_engine.settings import Settings


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


def takes_as_setting(queue: str) -> bool:
    try:
        return Settings.load(queue=queue).queue == queue
    except ConfigurationError:
        return False


def takes_as_option(queue: str) -> bool:
    try:
        check_queue(queue)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("queue", "is_name"),
    [
        *((name, True) for name in ("a", "Z", "9", "a.b-c_d", "a" * 100, "a..", "A-")),
        *((name, False) for name in ("", ".a", "-a", "_a", "a b", "a\n", "é", "a/b", "a:b", "a" * 101)),
    ],
)
def test_the_queue_of_the_settings_and_the_queue_of_a_stage_are_named_by_one_rule(queue: str, *, is_name: bool) -> None:
    assert (takes_as_setting(queue), takes_as_option(queue)) == (is_name, is_name)
