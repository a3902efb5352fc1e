"""Decide, then write: what user code did becomes one small frozen value. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.definition import UntilRuns
from workflow_engine.definition.checks import LONGEST_WAIT
from workflow_engine.errors import RetryAfter, StageTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.definition import Pending, Retry, Stage, Suspend
    from workflow_engine.settings import Settings
    from workflow_engine.store.records import Claim, StageFailure


@dataclass(frozen=True, slots=True)
class Completed:
    """The stage has an output."""

    payload: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The stage's ``skip_if`` said so."""


@dataclass(frozen=True, slots=True)
class Suspended:
    """The stage waits for something outside."""

    state: str
    #: "poll" or "runs": what ends it.
    on: str
    metadata: str | None
    wait_ms: int
    interval_ms: int
    max_wait_ms: int


@dataclass(frozen=True, slots=True)
class NotReady:
    """A poll found the stage not ready, or could not find out."""

    #: A new state to keep; None keeps the old one.
    state: str | None
    #: None means the suspension's own interval.
    wait_ms: int | None
    #: What kept the poll from finding out; counted, and forgotten by the next poll that does.
    failure: StageFailure | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """The attempt failed; another is due after ``delay_ms``."""

    failure: StageFailure
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The stage failed for good."""

    failure: StageFailure


@dataclass(frozen=True, slots=True)
class Mismatched:
    """This worker's definitions do not fit; another's may."""

    failure: StageFailure


@dataclass(frozen=True, slots=True)
class Released:
    """The execution was given up through no fault of its own; it does not count."""


Outcome = Completed | Skipped | Suspended | NotReady | Retrying | Failed | Mismatched | Released


def decide_error(
    error: BaseException, failure: StageFailure, retry: Retry, claim: Claim, random: Callable[[], float]
) -> Retrying | Failed:
    """Decide whether a failed attempt is tried again.

    Attempts that vanished with their worker do not count: they have a budget of their own.
    """
    failures = claim.attempt - claim.crashes
    if failures >= claim.max_attempts:
        return Failed(failure)
    if isinstance(error, RetryAfter):
        return Retrying(failure, to_milliseconds(min(error.delay, LONGEST_WAIT)))
    if not retry.covers(error):
        return Failed(failure)
    return Retrying(failure, to_milliseconds(retry.delay(failures, random)))


def decide_suspension(
    suspend: Suspend[Any], state: str, metadata: str | None, stage: Stage[Any, Any], settings: Settings
) -> Suspended:
    """Fix the waits of a suspension: its own, else the stage's, else the default; never below the floor."""
    interval = max(suspend.poll_interval or stage.poll_interval or settings.poll_interval, settings.min_poll_interval)
    max_wait = suspend.max_wait or stage.max_wait or settings.max_wait
    on = "runs" if isinstance(suspend, UntilRuns) else "poll"
    return Suspended(
        state, on, metadata, to_milliseconds(interval), to_milliseconds(interval), to_milliseconds(max_wait)
    )


def decide_pending(pending: Pending[Any], state: str | None, settings: Settings) -> NotReady:
    """Fix the wait until the next poll."""
    wait = pending.next_poll_in
    return NotReady(state, None if wait is None else to_milliseconds(max(wait, settings.min_poll_interval)))


#: Errors of a poll that say nothing about the thing that is waited for.
TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError, StageTimeout)
#: Consecutive polls that may fail that way before the stage does.
MAX_POLL_FAILURES = 10
_LONGEST_POLL_BACKOFF = timedelta(minutes=5)


def decide_poll_error(
    error: BaseException, failure: StageFailure, stage: Stage[Any, Any], claim: Claim, settings: Settings
) -> NotReady | Failed:
    """Decide whether a poll that raised is made again.

    Transient are connection errors, time limits, and what the stage's ``retry_on`` names beyond plain Exception.
    """
    named = tuple(kind for kind in stage.retry.retry_on if kind is not Exception)
    is_transient = isinstance(error, (*TRANSIENT_ERRORS, *named)) and not isinstance(error, stage.retry.give_up_on)
    if isinstance(error, RetryAfter):
        wait = min(max(error.delay, settings.min_poll_interval), LONGEST_WAIT)
        return NotReady(None, to_milliseconds(wait), failure)
    if not is_transient or claim.poll_failures + 1 >= MAX_POLL_FAILURES:
        return Failed(failure)
    interval_ms = claim.poll_interval_ms or to_milliseconds(settings.poll_interval)
    backoff = min(interval_ms * 2**claim.poll_failures, to_milliseconds(_LONGEST_POLL_BACKOFF))
    return NotReady(None, max(interval_ms, backoff), failure)
