from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from workflow_engine.arguments import MOST_ITEMS
from workflow_engine.cli.commands.runs import runs
from workflow_engine.cli.parameters import DURATION, JSON, PAIR
from workflow_engine.clock import LONGEST_DURATION
from workflow_engine.facade.reading import RunReader


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30s", timedelta(seconds=30)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("2 w", timedelta(weeks=2)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, duration: timedelta) -> None:
    assert DURATION.convert(text, None, None) == duration


@pytest.mark.parametrize("text", ["", "30", "-5m", "5 parsecs", "m5", "nan", "99999999999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize(("text", "value"), [('{"a": 1}', {"a": 1}), ("null", None), ('"x"', "x")])
def test_json_is_given_directly(text: str, value: Any) -> None:
    assert JSON.convert(text, None, None) == value


def test_json_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text("[1, 2]")

    assert JSON.convert(f"@{tmp_path / 'input.json'}", None, None) == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"), [("{a}", "not JSON"), ("@/no/such/file", "cannot read /no/such/file: No such file")]
)
def test_json_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        JSON.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("user=u-1", ("user", "u-1")),
        ("n=5", ("n", 5)),
        ("n=", ("n", "")),
        ("a=b=c", ("a", "b=c")),
        ('n="5"', ("n", "5")),
    ],
)
def test_a_pair_is_split_at_the_first_sign_and_its_value_is_json_where_it_can_be(
    text: str, pair: tuple[str, Any]
) -> None:
    assert PAIR.convert(text, None, None) == pair


@pytest.mark.parametrize("text", ["user", "=x", ""])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="key=value"):
        PAIR.convert(text, None, None)


def test_the_longest_duration_is_the_one_that_the_library_takes() -> None:
    assert DURATION.convert(f"{LONGEST_DURATION.days}d", None, None) == LONGEST_DURATION

    with pytest.raises(click.BadParameter, match="longer than 36,500 days"):
        DURATION.convert(f"{LONGEST_DURATION.days}d1s", None, None)


def test_the_largest_page_is_the_one_that_readers_take() -> None:
    [limit] = [parameter for parameter in runs.commands["list"].params if parameter.name == "limit"]

    assert isinstance(limit.type, click.IntRange)
    assert limit.type.max == MOST_ITEMS
    for read in (RunReader.list_events, RunReader.list_logs):
        assert inspect.signature(read).parameters["limit"].default == MOST_ITEMS
