"""Polls that raise: outages are waited out, other errors follow the stage's retry."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import pytest

from tests.contract.engine.stages import polled, stage_of, suspended
from workflow_engine.definition import Pending, Retry
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.lifecycle import StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def next_waits(tester: WorkflowTester, run: RunHandle[Any], polls: int) -> list[float | None]:
    """Poll so often, each time when it is due; return the wait that follows each poll, in seconds."""
    waits: list[float | None] = []
    for _ in range(polls):
        tester.advance(stage_of(run, "waits").next_poll_at - tester.now() + timedelta(milliseconds=1))
        before = tester.now()
        tester.run_until_idle()
        found = stage_of(run, "waits")
        waits.append(round((found.next_poll_at - before).total_seconds(), 1) if found.next_poll_at else None)
    return waits


def test_an_outage_of_whatever_is_asked_is_waited_out_however_long_it_takes(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls < 20:
            raise URLError(OSError("no route to host"))
        return ctx.state

    tester, run = suspended(start, polled(check=check))

    waits = next_waits(tester, run, 21)

    assert waits == [pytest.approx(30, abs=9)] * 20 + [None]
    assert run.output() == 7


def test_an_outage_that_outlasts_max_wait_fails_the_stage_and_says_what_the_last_poll_met(start: Start) -> None:
    def check(_: Any) -> Any:
        raise TimeoutError("no answer")

    tester, run = suspended(start, polled(check=check, max_wait=timedelta(seconds=70)))

    tester.run_to_end(run)

    found = stage_of(run, "waits")
    assert (found.status, found.polls, found.error.code) == (StageStatus.FAILED, 3, "WAIT_TIMEOUT")
    assert "the last poll failed: no answer" in found.error.message


def test_other_errors_of_a_poll_follow_the_stages_retry_and_an_answer_gives_the_attempts_back(start: Start) -> None:
    retry = Retry(3, backoff=timedelta(seconds=100), factor=2, jitter=False)

    def check(ctx: Any) -> Any:
        if ctx.polls in {1, 4}:
            return Pending()
        raise ConnectionError("no answer") if ctx.polls == 3 else ValueError("half an answer")

    tester, run = suspended(start, polled(check=check, retry=retry))

    waits = next_waits(tester, run, 8)

    assert [wait and round(wait, -1) for wait in waits] == [100, 30, 100, 30, 30, 100, 200, None]
    found = stage_of(run, "waits")
    assert (found.status, found.polls, found.error.type, found.attempt) == (StageStatus.FAILED, 8, "ValueError", 1)


def test_an_outage_does_not_use_up_the_attempts_of_other_errors(start: Start) -> None:
    def check(ctx: Any) -> Any:
        if ctx.polls < 12:
            raise ConnectionError("no answer")
        if ctx.polls == 12:
            raise ValueError("an error page instead of an answer")
        return ctx.state

    tester, run = suspended(start, polled(check=check, retry=Retry(2)))

    tester.run_to_end(run)

    assert (run.output(), stage_of(run, "waits").polls) == (7, 14)


def test_give_up_on_wins_over_an_error_being_transient(start: Start) -> None:
    def check(_: Any) -> Any:
        raise ConnectionRefusedError("gone for good")

    tester, run = suspended(start, polled(check=check, retry=Retry(give_up_on=(ConnectionRefusedError,))))

    tester.run_to_end(run)

    assert (stage_of(run, "waits").polls, stage_of(run, "waits").error.type) == (1, "ConnectionRefusedError")


class ProviderBusy(Exception):  # noqa: N818 - a state of the provider
    pass


def test_what_retry_on_names_is_transient_and_any_other_error_fails_the_stage(start: Start) -> None:
    def check(ctx: Any) -> Any:
        raise ProviderBusy if ctx.polls == 0 else LookupError("no such batch")

    tester, run = suspended(start, polled(check=check, retry=Retry(retry_on=(ProviderBusy,))))

    tester.run_to_end(run)

    found = stage_of(run, "waits")
    assert (found.polls, found.error.type, found.attempt) == (2, "LookupError", 1)
