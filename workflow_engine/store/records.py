"""Frozen values that leave the store: rows never do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from workflow_engine.clock import ms_to_instant
from workflow_engine.definition import StageRunOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from workflow_engine.definition import StoredOutput
    from workflow_engine.errors import ErrorCode
    from workflow_engine.lifecycle import RunStatus, StageStatus

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


class ClaimKind(StrEnum):
    """What a worker took a stage run for."""

    EXECUTE = "EXECUTE"
    POLL = "POLL"
    #: No worker took it: a callback told its outcome.
    CALLBACK = "PUSH"


class AttemptOutcome(StrEnum):
    """How a claim ended."""

    COMPLETED = "COMPLETED"
    SKIPPED = "SKIPPED"
    SUSPENDED = "SUSPENDED"
    NOT_READY = "NOT_READY"
    FAILED = "FAILED"
    #: Given back without burning an attempt.
    RELEASED = "RELEASED"
    #: The lease expired, or the worker was seen dying.
    LOST = "LOST"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Hint:
    """A message to send after the commit: this stage run may be due. It carries no authority."""

    stage_run_id: str
    dispatch_number: int
    run_id: str
    stage_id: str
    queue: str
    #: 0 to 10, higher is more important; lost work is sent again with 10, the recovery lane.
    priority: int


#: Characters of a message that an event carries.
LONGEST_TOLD: Final = 500


@dataclass(frozen=True, slots=True)
class Limit:
    """A time limit that was passed."""

    #: ``timeout``, ``poll_timeout``, ``max_wait``, ``queue_timeout`` or ``deadline``.
    name: str
    #: Who had set it: ``stage``, ``suspension``, ``setting`` or ``run``.
    source: str
    length_ms: int
    #: When it passed, in milliseconds since the epoch; None for a limit that the worker measures.
    at_ms: int | None = None

    @property
    def event(self) -> dict[str, Any]:
        """What an event tells about it: the length in seconds, the instant in UTC."""
        told: dict[str, Any] = {"name": self.name, "source": self.source, "seconds": self.length_ms / 1000}
        return told if self.at_ms is None else {**told, "at": ms_to_instant(self.at_ms).isoformat()}

    def __str__(self) -> str:
        """Say it in a message: ``its max_wait of 1 day, 0:00:00 (the setting's), at 2026-01-01T00:00:00+00:00``."""
        at = "" if self.at_ms is None else f", at {ms_to_instant(self.at_ms).isoformat()}"
        return f"its {self.name} of {timedelta(milliseconds=self.length_ms)} (the {self.source}'s){at}"


@dataclass(frozen=True, slots=True)
class StageFailure:
    """What is recorded about an error; texts are already sanitised and redacted."""

    code: ErrorCode
    type: str
    message: str
    traceback: str = ""
    #: The limit that was passed, if that is what failed.
    limit: Limit | None = None
    #: The exception for the log of the process, or a stand-in where its own text would show a secret. Not recorded.
    exception: BaseException | None = field(default=None, compare=False, repr=False)

    @property
    def event(self) -> dict[str, Any]:
        """What an event tells about it."""
        told: dict[str, Any] = {"code": self.code.value, "message": self.message[:LONGEST_TOLD]}
        return told if self.limit is None else {**told, "limit": self.limit.event}

    @property
    def headline(self) -> str:
        """Type and message on one line."""
        return " ".join(f"{self.type}: {self.message}".split())

    @property
    def exc_info(self) -> ExcInfo | None:
        """What ``logging`` takes to show the exception and its traceback."""
        error = self.exception
        return None if error is None or error.__traceback__ is None else (type(error), error, error.__traceback__)

    @property
    def columns(self) -> dict[str, Any]:
        """The error columns of a stage run or an attempt."""
        return {
            "error_code": self.code.value,
            "error_type": self.type,
            "error_message": self.message,
            "error_traceback": self.traceback,
        }


@dataclass(frozen=True, slots=True)
class Lease:
    """Ownership of a stage run: names one claim for ever."""

    stage_run_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Who wants which stage run, on the strength of which message."""

    stage_run_id: str
    #: Of the message; tells whether it was the latest one.
    dispatch_number: int
    #: Fresh for each claim; the same when the call is repeated.
    nonce: str
    worker_id: str
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Claim(StageRunOptions):
    """Everything that executing, or polling, a stage run needs; read in the statement that took it.

    A field has the name of the column that it is read from: the stage run's, or else its run's. The exceptions are in
    ``store.moves.claim_columns``.
    """

    kind: ClaimKind
    stage_run_id: str
    fence: int
    run_id: str
    workflow_id: str
    stage_id: str
    stage_name: str
    execution_group: int
    input_group: int
    generation: int
    attempt: int
    crashes: int
    postponements: int
    #: JSON texts of the run.
    plan: str
    config: str
    metadata: str
    #: The run's input; None unless the stage run's input comes from it.
    run_input: str | None
    outputs: Mapping[str, StoredOutput]
    suspended_state: str | None
    #: The kind of the wait, see ``definition.waits``.
    suspended_on: str | None
    suspended_at: int | None
    max_wait_until: int | None
    polls: int
    poll_failures: int
    #: JSON text of the numbers reported so far; what this claim reports is added to them.
    metrics: str
    #: The stage run that created this run, if it is a child; the end of the run wakes it.
    parent_stage_run_id: str | None
    #: The database's time of the claim.
    claimed_at: int

    @property
    def lease(self) -> Lease:
        """The ownership that this claim conferred."""
        return Lease(self.stage_run_id, self.fence)

    @property
    def is_last_poll(self) -> bool:
        """Whether it was taken for a poll after the suspension's ``max_wait``: there is no other poll after it."""
        return self.max_wait_until is not None and self.claimed_at > self.max_wait_until


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to insert, PENDING. Plan, input, config and metadata are JSON texts."""

    id: str
    workflow_id: str
    workflow_name: str
    workflow_type: str | None
    workflow_version: str
    priority: int
    plan: str
    input: str
    config: str
    metadata: str
    idempotency_key: str | None
    #: Tells two requests under one idempotency key apart.
    request_fingerprint: str | None
    deadline_at: int | None = None
    parent_run_id: str | None = None
    parent_stage_run_id: str | None = None
    forked_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow(NewRun):
    """A run as its moves see it: what it was created with, and how it stands. ``schema.tables`` describes the columns."""

    status: RunStatus
    paused_at: int | None
    generation: int
    current_group: int
    input_group: int
    output_group: int | None
    remaining: int
    failed: int
    error_code: str | None
    error_message: str | None
    failed_stage_run_id: str | None
    event_sequence: int
    created_at: int
    started_at: int | None
    completed_at: int | None


@dataclass(frozen=True, slots=True)
class StageRow(StageRunOptions):
    """A stage run as its moves see it."""

    id: str
    stage_id: str
    execution_group: int
    superseded_by: int | None
    status: StageStatus
    attempt: int
    crashes: int
    postponements: int
    fence: int
    lease_id: str | None
    lease_until: int | None
    worker_id: str | None
    available_at: int
    queue: str
    priority: int
    dispatch_number: int
    suspended_state: str | None
    poll_interval_ms: int | None
    max_wait_until: int | None
    final_poll_at: int | None
    suspended_at: int | None
    queue_timeout_at: int | None
    poll_failures: int
    poll_crashes: int
    wake_sequence: int
    mismatch_since: int | None
    #: Whether it waits and its time had come when the run was locked; ``admission`` tells what else a claim asks.
    is_due: bool

    @property
    def is_live(self) -> bool:
        """Whether the row belongs to the run's present pass over that group."""
        return self.superseded_by is None

    def is_past_max_wait(self, instant: int) -> bool:
        """Whether its suspension has lasted longer than it may."""
        return self.max_wait_until is not None and self.max_wait_until < instant


@dataclass(frozen=True, slots=True)
class NewStageRun(StageRunOptions):
    """A stage run to insert, PENDING; its priority is its run's. The fields are columns, but for the last."""

    id: str
    stage_id: str
    stage_name: str
    stage_number: int
    execution_group: int
    #: Comma-separated.
    dependencies: str
    queue: str
    #: Added to the instant from which on it may be claimed, it is ``queue_timeout_at``.
    queue_timeout_ms: int | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a stage wrote to its log."""

    line: int
    level: str
    message: str
    fields: str
    created_at: int


@dataclass(frozen=True, slots=True)
class NewAnnotation:
    """An annotation that a stage left, to be committed with its outcome."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one attempt leaves beside its outcome; added up or appended in the same transaction."""

    cost_nanos: int = 0
    tokens: int = 0
    metrics: str | None = None
    logs: tuple[LogLine, ...] = ()
    annotations: tuple[NewAnnotation, ...] = ()

    @property
    def has_cost(self) -> bool:
        """Whether the attempt reported money or tokens."""
        return bool(self.cost_nanos or self.tokens)


#: What an attempt leaves that reported nothing.
NOTHING_REPORTED: Final = Report()


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a completion led to."""

    #: Messages to send after the commit.
    hints: tuple[Hint, ...]
    run_status: RunStatus
