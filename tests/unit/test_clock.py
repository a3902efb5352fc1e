"""Instants, durations and the host's clock."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_engine import WorkflowBuilder, WorkflowRuntime, arguments, clock
from workflow_engine.clock import (
    LONGEST_DURATION,
    MAX_INSTANT,
    SystemClock,
    instant_to_ms,
    ms_to_instant,
    to_milliseconds,
)
from workflow_engine.definition import NoInput, define_stage
from workflow_engine.errors import WorkflowEngineError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("duration", "milliseconds"),
    [
        (timedelta(0), 0),
        (timedelta(milliseconds=5), 5),
        (timedelta(microseconds=1), 1),
        (timedelta(milliseconds=5, microseconds=1), 6),
        (timedelta(days=1), 86_400_000),
        (timedelta(microseconds=-1500), -1),
    ],
)
def test_durations_are_rounded_up_to_milliseconds(duration: timedelta, milliseconds: int) -> None:
    assert to_milliseconds(duration) == milliseconds


@given(st.timedeltas(timedelta(0), timedelta(days=36_500)))
def test_a_wait_is_never_shorter_than_asked(duration: timedelta) -> None:
    rounded = timedelta(milliseconds=to_milliseconds(duration))

    assert timedelta(0) <= rounded - duration < timedelta(milliseconds=1)


@given(st.integers(-62_135_596_800_000, 253_339_228_800_000))
def test_instants_come_back_from_milliseconds(milliseconds: int) -> None:
    instant = ms_to_instant(milliseconds)

    assert instant.utcoffset() == timedelta(0)
    assert instant_to_ms(instant) == milliseconds


def test_the_time_zone_does_not_change_the_instant() -> None:
    in_utc = datetime(2026, 7, 1, 12, tzinfo=UTC)
    elsewhere = in_utc.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert instant_to_ms(elsewhere) == instant_to_ms(in_utc) == 1_782_907_200_000


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        instant_to_ms(datetime(2026, 1, 1))  # noqa: DTZ001 - naive on purpose


def test_an_instant_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="is later than 9998-12-31"):
        instant_to_ms(MAX_INSTANT + timedelta(microseconds=1))

    assert ms_to_instant(instant_to_ms(MAX_INSTANT)) == MAX_INSTANT


def test_the_system_clock_is_aware_and_in_utc() -> None:
    before = datetime.now(UTC)  # noqa: TID251 - compared with the clock

    now = SystemClock().now()

    assert timedelta(0) <= now - before < timedelta(minutes=1)
    assert now.tzinfo is UTC


def test_the_monotonic_clock_does_not_go_back() -> None:
    clock = SystemClock()

    readings = [clock.monotonic() for _ in range(100)]

    assert readings == sorted(readings)


@pytest.mark.parametrize(
    ("duration", "slices"), [(timedelta(seconds=1.25), [0.5, 0.5, 0.25]), (timedelta(seconds=-3), [])]
)
def test_sleeping_waits_for_the_duration_in_slices(
    monkeypatch: pytest.MonkeyPatch, duration: timedelta, slices: list[float]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: sum(waits))
    monkeypatch.setattr(threading.Event, "wait", lambda _, timeout: waits.append(timeout))

    SystemClock().sleep(duration)

    assert waits == slices


def take_as_argument(duration: timedelta) -> None:
    arguments.check_duration("valid_for", duration)


def take_as_option(duration: timedelta) -> None:
    define_stage(id="a", execute=lambda _: 1, input=NoInput, output=int, timeout=duration)


def take_as_deadline_of_a_workflow(duration: timedelta) -> None:
    only = define_stage(id="a", execute=lambda _: 1, input=NoInput, output=int)
    WorkflowBuilder("a", deadline=duration).pipe(only).build()


def take_as_deadline_of_a_run(duration: timedelta) -> None:
    only = define_stage(id="a", execute=lambda _: 1, input=NoInput, output=int)
    with WorkflowRuntime(WorkflowBuilder("a").pipe(only).build(), database_url="sqlite://") as runtime:
        runtime.create_run("a", deadline=duration)


@pytest.mark.parametrize(
    "take", [take_as_argument, take_as_option, take_as_deadline_of_a_workflow, take_as_deadline_of_a_run]
)
def test_one_bound_of_durations_is_what_everything_that_takes_one_goes_by(
    take: Callable[[timedelta], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(LONGEST_DURATION)
    monkeypatch.setattr(clock, "LONGEST_DURATION", timedelta(days=7))

    with pytest.raises((ValueError, WorkflowEngineError), match="must be at most 7 days, got 36,500"):
        take(LONGEST_DURATION)
