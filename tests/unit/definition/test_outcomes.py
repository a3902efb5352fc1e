"""Outcome values refuse nonsense when they are made; the retry policy counts, covers and waits."""

from __future__ import annotations

import random
from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_engine.definition import Pending, Retry, Suspend, UntilRuns
from workflow_engine.definition.waits import Poll, Runs
from workflow_engine.errors import (
    DefinitionError,
    InvalidDataError,
    PayloadError,
    StageOutputMissing,
    StageSkipped,
    StageTimeout,
)

SECOND = timedelta(seconds=1)


class Handle:
    id = "run-2"


@pytest.mark.parametrize("name", ["poll_interval", "max_wait"])
@pytest.mark.parametrize("value", [timedelta(0), -SECOND, timedelta(days=36_501), timedelta.max], ids=str)
def test_a_suspension_refuses_waits_out_of_range(name: str, value: timedelta) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Suspend("state", **{name: value})  # type: ignore[arg-type] # the name varies


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"poll_interval": 30}, "poll_interval must be a timedelta, not int"),
        ({"max_wait": float("inf")}, "max_wait must be a timedelta, not float"),
        ({"metadata": [1]}, "metadata must be a mapping, not list"),
        ({"metadata": {1: 2}}, "a key of metadata must be a string, not int"),
        ({"metrics": 3}, "metrics must be a mapping of names to numbers, not int"),
        ({"metrics": {"a": "b"}}, r"metrics\['a'\] must be a number, not str"),
        ({"metrics": {"a": True}}, r"metrics\['a'\] must be a number, not bool"),
    ],
    ids=str,
)
def test_a_suspension_refuses_arguments_of_other_types(arguments: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        Suspend("state", **arguments)


def test_a_suspension_refuses_metrics_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match=r"metrics\['a'\] must be finite, got nan"):
        Suspend("state", metrics={"a": float("nan")})


def test_a_suspension_keeps_what_it_is_given() -> None:
    suspend = Suspend({"id": 1}, poll_interval=SECOND, max_wait=2 * SECOND, metadata={"a": [1]}, metrics={"n": 2})

    assert suspend.state == {"id": 1}
    assert (suspend.poll_interval, suspend.max_wait) == (SECOND, 2 * SECOND)
    assert (suspend.metadata, suspend.metrics) == ({"a": [1]}, {"n": 2})


def test_a_suspension_until_runs_knows_their_ids() -> None:
    suspend = Suspend.until_runs("run-1", Handle())

    assert isinstance(suspend, UntilRuns)
    assert isinstance(suspend, Suspend)
    assert suspend.run_ids == ("run-1", "run-2")
    assert suspend.wait == suspend.state == Runs(("run-1", "run-2"))


def test_a_suspension_with_another_state_waits_for_the_poll_of_its_stage() -> None:
    assert Suspend({"id": 1}).wait == Poll({"id": 1})


def test_a_suspension_until_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        Suspend.until_runs()


def test_a_suspension_until_runs_of_anything_else_is_refused_and_told_how_it_is_made() -> None:
    with pytest.raises(TypeError, match=r"UntilRuns is made by Suspend.until_runs\(run, ...\), not of a tuple"):
        UntilRuns(("run-1",))  # type: ignore[arg-type] # the mistake


def test_run_ids_are_strings() -> None:
    with pytest.raises(TypeError, match="a run id must be a string, not int"):
        Runs((3,))  # type: ignore[arg-type] # the mistake


def test_outcomes_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Pending(SECOND).progress = 0.5  # type: ignore[misc] # the mistake


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"next_poll_in": timedelta(0)}, "next_poll_in must be more than zero"),
        ({"next_poll_in": -SECOND}, "next_poll_in must be more than zero"),
        ({"progress": 1.5}, "progress must be from 0 to 1, got 1.5"),
        ({"progress": -0.1}, "progress must be from 0 to 1"),
        ({"progress": float("nan")}, "progress must be finite"),
        ({"metrics": {"a": float("inf")}}, "must be finite"),
    ],
    ids=str,
)
def test_pending_refuses_values_out_of_range(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pending(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"next_poll_in": 30}, {"progress": "half"}, {"progress": True}, {"message": 3}], ids=str
)
def test_pending_refuses_arguments_of_other_types(arguments: Any) -> None:
    with pytest.raises(TypeError, match=next(iter(arguments))):
        Pending(**arguments)


def test_pending_needs_no_arguments() -> None:
    pending = Pending()

    assert (pending.next_poll_in, pending.state, pending.progress, pending.message) == (None, None, None, None)


@pytest.mark.parametrize("progress", [0, 1, 0.5])
def test_the_ends_of_progress_are_included(progress: float) -> None:
    assert Pending(progress=progress).progress == progress


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_attempts": 0}, ValueError, "max_attempts must be at least 1, got 0"),
        ({"max_attempts": True}, TypeError, "max_attempts must be a whole number, not bool"),
        ({"max_attempts": 2.0}, TypeError, "max_attempts must be a whole number, not float"),
        ({"backoff": -SECOND}, ValueError, "backoff must be zero or more"),
        ({"backoff": 1}, TypeError, "backoff must be a timedelta, not int"),
        ({"max_backoff": -SECOND}, ValueError, "max_backoff must be zero or more"),
        ({"factor": 0.5}, ValueError, "factor must be at least 1, got 0.5"),
        ({"factor": float("inf")}, ValueError, "factor must be finite"),
        ({"factor": "2"}, TypeError, "factor must be a number"),
        ({"retry_on": ValueError}, TypeError, "retry_on must be a tuple of exception classes, not type"),
        ({"retry_on": (ValueError("x"),)}, TypeError, "retry_on must hold exception classes"),
        ({"give_up_on": [ValueError]}, TypeError, "give_up_on must be a tuple"),
        ({"give_up_on": (int,)}, TypeError, "give_up_on must hold exception classes"),
    ],
    ids=str,
)
def test_a_retry_policy_refuses_nonsense(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Retry(**arguments)


def test_waits_double_up_to_the_longest() -> None:
    retry = Retry(backoff=SECOND, factor=2, max_backoff=timedelta(seconds=5), jitter=False)

    waits = [retry.delay(failures, lambda: 0.1).total_seconds() for failures in range(1, 6)]

    assert waits == [1, 2, 4, 5, 5]


def test_jitter_draws_from_the_second_half_of_the_wait() -> None:
    retry = Retry(backoff=SECOND, factor=2)

    assert retry.delay(2, lambda: 0.0) == SECOND
    assert retry.delay(2, lambda: 0.25) == timedelta(seconds=1.25)
    assert retry.delay(2, lambda: 1.0) == 2 * SECOND


def test_the_default_outlives_an_outage_of_half_a_minute_and_ends_within_two() -> None:
    draw = random.Random(7).random  # noqa: S311 - jitter
    retry = Retry()

    totals = sorted(
        sum(retry.delay(failures, draw).total_seconds() for failures in range(1, retry.max_attempts))
        for _ in range(1_000)
    )

    assert totals[50] >= 30, "of a thousand, fifty may be shorter"
    assert totals[-1] <= 120


@given(st.integers(1, 10**9), st.floats(1, 1e300), st.floats(0, 1))
def test_no_wait_exceeds_the_longest(failures: int, factor: float, drawn: float) -> None:
    delay = Retry(factor=factor).delay(failures, lambda: drawn)

    assert timedelta(0) <= delay <= timedelta(minutes=5)


def test_without_backoff_there_is_no_wait() -> None:
    retry = Retry(backoff=timedelta(0), factor=10.0, jitter=False)

    assert retry.delay(1, lambda: 1.0) == timedelta(0)
    assert retry.delay(5_000, lambda: 1.0) == timedelta(0)


def test_a_wait_follows_a_failure() -> None:
    with pytest.raises(ValueError, match="failures must be at least 1"):
        Retry().delay(0, lambda: 1.0)


def test_ordinary_errors_are_retried() -> None:
    assert Retry().covers(ValueError())
    assert Retry().covers(StageTimeout())
    assert not Retry().covers(KeyboardInterrupt())


@pytest.mark.parametrize(
    "error",
    [InvalidDataError("x", []), PayloadError(), DefinitionError(), StageOutputMissing(), StageSkipped()],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_no_attempt_heals_are_never_retried(error: Exception) -> None:
    assert not Retry(retry_on=(BaseException, type(error))).covers(error)


def test_retry_on_narrows_and_give_up_on_wins() -> None:
    retry = Retry(retry_on=(OSError,), give_up_on=(FileNotFoundError,))

    assert retry.covers(ConnectionError())
    assert not retry.covers(FileNotFoundError())
    assert not retry.covers(ValueError())
