from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from workflow_engine.cli.screens.formatting import (
    format_age,
    format_cost,
    format_count,
    format_duration,
    format_fields,
    one_line,
)

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.34, "340 ms"),
        (0.9996, "1.0 s"),
        (2.44, "2.4 s"),
        (59.96, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (86400 * 3 + 3600 * 4 + 59, "3 d 4 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(hours=3, minutes=50), "3 hours ago"),
        (-timedelta(days=2, hours=1), "in 2 days"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(delta: timedelta, text: str) -> None:
    assert format_age(NOW - delta, NOW) == text


def test_what_is_not_there_is_a_dash() -> None:
    assert format_duration(None) == format_age(None, NOW) == "\u2013"


@pytest.mark.parametrize(
    ("cost", "text"), [("0", "0.00"), ("1.5", "1.50"), ("0.000125", "0.000125"), ("1234567.891", "1,234,567.891")]
)
def test_a_cost_has_the_decimals_it_needs(cost: str, text: str) -> None:
    assert format_cost(Decimal(cost)) == text


def test_fields_are_pairs_and_what_is_no_plain_word_is_json() -> None:
    assert format_fields({"a": "word", "b": "two words", "c": 3, "d": None, "e": [1], "f": ""}) == (
        'a=word b="two words" c=3 d=null e=[1] f=""'
    )


def test_a_text_of_many_lines_becomes_one_short_line() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("x" * 50, limit=10) == "x" * 9 + "…"


def test_a_count_agrees_with_its_noun() -> None:
    assert [format_count(n, "run") for n in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]
