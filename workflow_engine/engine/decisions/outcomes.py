"""The outcome of an attempt or poll is decided here as one small frozen value, and written elsewhere. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import LONGEST_DURATION, to_milliseconds
from workflow_engine.definition.stages.outcomes import NEVER_RETRIED
from workflow_engine.engine.decisions.transient_errors import is_transient
from workflow_engine.engine.process.database_patience import ABSENCES
from workflow_engine.errors import ErrorCode, RetryAfter
from workflow_engine.store.records import Limit, StageFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from workflow_engine.definition import Retry, Stage, Suspend
    from workflow_engine.settings import Settings
    from workflow_engine.store.records import Claim


@dataclass(frozen=True, slots=True)
class Completed:
    """The stage has an output."""

    payload: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The stage's ``skip_if`` returned True."""


@dataclass(frozen=True, slots=True)
class Suspended:
    """The stage waits."""

    state: str
    #: The kind of the wait, as it is stored.
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
    #: The error that kept the poll from finding out.
    failure: StageFailure | None = None
    #: Whether the failure uses up one of the stage's attempts; the next poll that finds out gives all of them back.
    is_counted: bool = False
    #: The poll was the last one: this fails the stage, unless it was woken while the poll was under way.
    expiry: StageFailure | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """The attempt failed; another is due after ``delay_ms``."""

    failure: StageFailure
    delay_ms: int
    #: The body asked for it with ``RetryAfter``: the attempt does not count as failed.
    is_postponement: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The stage failed for good."""

    failure: StageFailure


@dataclass(frozen=True, slots=True)
class Mismatched:
    """The definitions of this worker do not fit the claim; those of another worker may."""

    failure: StageFailure
    #: How long workers may give the stage run back for this reason before it fails.
    grace: timedelta


class MismatchReason(StrEnum):
    """The definition that a worker lacks to execute a stage run; recorded as the type of the error."""

    #: Its workflow has no such stage, or the stage has no poll: a deployment is under way, or went wrong.
    STAGE = "UnknownStage"
    #: The workflow is not registered there; it may be another app's.
    WORKFLOW = "UnknownWorkflow"
    #: A later release wrote the plan, or suspended the stage.
    RELEASE = "LaterRelease"


@dataclass(frozen=True, slots=True)
class Released:
    """The execution was given up through no fault of its own; it does not count."""


Outcome = Completed | Skipped | Suspended | NotReady | Retrying | Failed | Mismatched | Released


#: How often the attempts of a stage run may end with ``RetryAfter``.
MAX_POSTPONEMENTS = 100


def decide_error(
    error: BaseException, failure: StageFailure, retry: Retry, claim: Claim, random: Callable[[], float]
) -> Retrying | Failed:
    """Decide whether a failed attempt is tried again.

    Attempts that vanished with their worker, and those that asked for a later one, have budgets of their own. An
    attempt that the engine's own database failed is retried even if ``retry_on`` does not name its error.
    """
    if isinstance(error, RetryAfter):
        if claim.postponements >= MAX_POSTPONEMENTS:
            problem = f"postponed more than {MAX_POSTPONEMENTS} times; the last time: {failure.message}"
            return Failed(replace(failure, message=problem))
        return Retrying(failure, to_milliseconds(min(error.delay, LONGEST_DURATION)), is_postponement=True)
    failures = claim.attempt - claim.crashes - claim.postponements
    is_ours = isinstance(error, ABSENCES) and not isinstance(error, retry.give_up_on)
    if failures >= claim.max_attempts or not (is_ours or retry.covers(error)):
        return Failed(failure)
    return Retrying(failure, to_milliseconds(retry.delay(failures, random)))


def decide_mismatch(reason: MismatchReason, problem: str, settings: Settings) -> Mismatched:
    """Decide how long the stage run is left to other workers before it fails."""
    grace = settings.definition_grace if reason is MismatchReason.STAGE else settings.unknown_workflow_grace
    return Mismatched(StageFailure(ErrorCode.DEFINITION_MISMATCH, reason.value, problem), grace)


def decide_suspension(
    suspend: Suspend[Any], state: str, metadata: str | None, stage: Stage[Any, Any], settings: Settings
) -> Suspended:
    """Decide the waits of a suspension: its own, else the stage's, else the default; never below the floor."""
    interval = max(suspend.poll_interval or stage.poll_interval or settings.poll_interval, settings.min_poll_interval)
    max_wait = suspend.max_wait or stage.max_wait or settings.max_wait
    return Suspended(
        state,
        suspend.wait.kind,
        metadata,
        to_milliseconds(interval),
        to_milliseconds(interval),
        to_milliseconds(max_wait),
    )


def decide_pending(
    wait: timedelta | None, state: str | None, stage: Stage[Any, Any], claim: Claim, settings: Settings
) -> NotReady:
    """Fix the wait until the next poll, unless this one was the last."""
    outcome = NotReady(state, None if wait is None else _poll_wait(wait, settings))
    return _end_if_last(outcome, stage, claim, settings, "the last poll found it not ready")


def decide_poll_error(
    error: BaseException,
    failure: StageFailure,
    stage: Stage[Any, Any],
    claim: Claim,
    settings: Settings,
    *,
    random: Callable[[], float],
) -> NotReady | Failed:
    """Decide whether a poll that raised is made again.

    It is after a transient error, as long as the suspension may last; any other error follows the stage's ``Retry``.
    """
    is_final = isinstance(error, NEVER_RETRIED + stage.retry.give_up_on)
    if isinstance(error, RetryAfter):
        outcome = NotReady(None, _poll_wait(error.delay, settings), failure)
    elif not is_final and is_transient(error):
        outcome = NotReady(None, None, failure)
    elif claim.poll_failures + 1 < claim.max_attempts and stage.retry.covers(error):
        delay = stage.retry.delay(claim.poll_failures + 1, random)
        outcome = NotReady(None, _poll_wait(delay, settings), failure, is_counted=True)
    else:
        return Failed(failure)
    return _end_if_last(outcome, stage, claim, settings, f"the last poll failed: {failure.message}")


def _poll_wait(wait: timedelta, settings: Settings) -> int:
    return to_milliseconds(min(max(wait, settings.min_poll_interval), LONGEST_DURATION))


def _end_if_last(outcome: NotReady, stage: Stage[Any, Any], claim: Claim, settings: Settings, reason: str) -> NotReady:
    if not claim.is_last_poll:
        return outcome
    passed = passed_max_wait(claim.max_wait_until, claim.suspended_at, stage, settings)
    expiry = wait_timeout(claim.stage_id, passed, reason)
    return replace(outcome, expiry=replace(expiry, traceback=outcome.failure.traceback if outcome.failure else ""))


def passed_max_wait(
    until: int | None, suspended_at: int | None, stage: Stage[Any, Any] | None, settings: Settings
) -> Limit:
    """Return the limit of a suspension, and whether the stage, the setting or the suspension itself had set it."""
    at_ms = until or 0
    length = at_ms - (suspended_at or at_ms)
    if stage is not None and stage.max_wait is not None and to_milliseconds(stage.max_wait) == length:
        return Limit("max_wait", "stage", length, at_ms)
    is_setting = to_milliseconds(settings.max_wait) == length
    return Limit("max_wait", "setting" if is_setting else "suspension", length, at_ms)


def wait_timeout(stage_id: str, passed: Limit, reason: str) -> StageFailure:
    """Return the failure of a suspension that lasted too long."""
    message = f'Stage "{stage_id}" waited past {passed}: {reason}'
    return StageFailure(ErrorCode.WAIT_TIMEOUT, "WaitTimeout", message, limit=passed)
