"""Snapshots: frozen values that show records, with instants as aware UTC datetimes and money as Decimal."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workflow_engine.clock import ms_to_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy.engine import RowMapping

    from workflow_engine.lifecycle import RunStatus, StageStatus
    from workflow_engine.store.records import AttemptOutcome, ClaimKind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run as it was when it was read."""

    id: str
    workflow_id: str
    workflow_name: str
    workflow_type: str | None
    workflow_version: str
    #: SUSPENDED where every active stage run is; the stored status is RUNNING then.
    status: RunStatus
    priority: int
    #: Whether the run itself is paused.
    paused: bool
    #: Whether its whole workflow is.
    workflow_paused: bool
    #: Passes over the plan so far, less one.
    generation: int
    #: 1-based number of the group that is, or was last, under way.
    current_group: int
    #: The group whose outputs are the run's output, once COMPLETED; 0 where every stage was skipped.
    output_group: int | None
    metadata: Mapping[str, Any]
    idempotency_key: str | None
    error_code: str | None
    error_message: str | None
    #: The stage whose failure made it fail; None where its deadline did.
    failed_stage_id: str | None
    #: Of all its attempts, those of earlier generations included.
    total_cost: Decimal
    total_tokens: int
    parent_run_id: str | None
    #: The stage run that started it.
    parent_stage_run_id: str | None
    #: The run whose outputs it shares, for a fork.
    forked_from: str | None
    deadline_at: datetime | None
    created_at: datetime
    #: Of the present generation, as ``completed_at``: its first claim. Events tell of the generations before.
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def duration(self) -> timedelta | None:
        """From start to end of the present generation; None until it has ended, and where it ended before it started."""
        return _between(self.started_at, self.completed_at)


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """A recorded error."""

    code: str
    #: Name of the exception's class.
    type: str | None
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class RolledUpCost:
    """The cost of a run and of the runs that it started, together."""

    cost: Decimal
    tokens: int
    #: The number of runs, itself included.
    runs: int


@dataclass(frozen=True, slots=True)
class Suspension:
    """The present or last suspension of a stage run."""

    #: ``poll``, or ``runs`` for the end of other runs.
    on: str
    #: What its next poll is given: a batch's id, the ids of the runs. Values of secret keys are replaced.
    state: Any
    #: What ``Suspend(metadata=…)`` said. Values of secret keys are replaced.
    metadata: Any
    #: Wait between polls that the suspension asked for.
    poll_interval: timedelta | None
    #: Polls in a row that raised, and polls whose worker died or fell silent.
    poll_failures: int
    poll_crashes: int
    #: When the last poll was asked for, once ``max_wait`` had passed.
    final_poll_at: datetime | None


@dataclass(frozen=True, slots=True)
class StageSnapshot:
    """A stage run as it was when it was read."""

    id: str
    run_id: str
    stage_id: str
    stage_name: str
    #: 1-based position over the whole workflow.
    stage_number: int
    #: 1-based group.
    execution_group: int
    generation: int
    #: False for rows that a rerun replaced: history.
    is_live: bool
    status: StageStatus
    #: Attempts so far, the one under way included.
    attempt: int
    max_attempts: int
    #: Attempts whose worker died or fell silent.
    crashes: int
    max_crashes: int
    #: Attempts that ended with ``RetryAfter``.
    postponements: int
    queue: str
    priority: int
    #: The process that holds it, or held it last.
    worker_id: str | None
    #: Until when that process holds it, unless it renews its lease; None for one that nobody holds.
    lease_until: datetime | None
    #: When it may be claimed: in the future while it waits for a retry.
    available_at: datetime
    #: When it fails unless somebody claims it before.
    queue_timeout_at: datetime | None
    #: When its latest message was sent, and how often a message of its present wait was lost and sent again.
    dispatched_at: datetime
    redispatches: int
    #: Since when workers have been giving it back because their definitions do not fit.
    mismatch_since: datetime | None
    next_poll_at: datetime | None
    suspended_at: datetime | None
    max_wait_until: datetime | None
    polls: int
    #: None for one that never suspended.
    suspension: Suspension | None
    #: When its ``on_cancel`` is called next, and how often that was tried; None where nothing is owed.
    cleanup_due_at: datetime | None
    cleanup_attempts: int
    #: In a fork: the stage run that produced the output, and whose records it has.
    shared_from: str | None
    cost: Decimal
    tokens: int
    metrics: Mapping[str, Any]
    #: What it failed with, or what its last attempt did while it waits for the next; None once it ended well.
    error: ErrorInfo | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def duration(self) -> timedelta | None:
        """From its first claim to its end; None until it has ended, and for one that was never claimed."""
        return _between(self.started_at, self.completed_at)


@dataclass(frozen=True, slots=True)
class AttemptSnapshot:
    """One claim of a stage run: an attempt, or a poll."""

    stage_run_id: str
    kind: ClaimKind
    attempt: int
    fence: int
    worker_id: str
    started_at: datetime
    ended_at: datetime | None
    #: None while it is under way.
    outcome: AttemptOutcome | None
    #: What it reported, its result accepted or not; counted in its stage run's sum.
    cost: Decimal
    tokens: int
    #: What it failed with, also where a later attempt completed the stage.
    error: ErrorInfo | None

    @property
    def duration(self) -> timedelta | None:
        """From claim to end; None while it is under way."""
        return _between(self.started_at, self.ended_at)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a stage's log."""

    run_id: str
    stage_run_id: str
    stage_id: str
    attempt: int
    fence: int
    #: Position within its attempt; lines from outside any attempt count by themselves, with fence 0.
    line: int
    level: str
    message: str
    fields: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ArtifactEntry:
    """A named extra result of a run, without its value."""

    run_id: str
    #: The stage that it belongs to; None for those that the run's stages share.
    stage_id: str | None
    key: str
    #: Length of its JSON text.
    size_bytes: int
    #: The stage that wrote it.
    written_by: str
    #: Of the stage run that wrote it; in a fork, of the stage run that shares it.
    generation: int
    #: False for history: its stage run was superseded by a rerun, or a later one wrote, or deleted, the shared key.
    is_live: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AnnotationEntry:
    """A value that a stage or somebody else attached to a run."""

    id: str
    run_id: str
    key: str
    value: Any
    #: Who: ``stage`` for stage bodies.
    actor: str
    stage_id: str | None
    attempt: int | None
    generation: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of the items that were asked for."""

    items: tuple[T, ...]
    #: Pass it as ``cursor`` to get the next page; None on the last one.
    next_cursor: str | None

    @classmethod
    def of(cls, found: Sequence[T], limit: int, cursor_of: Callable[[T], str]) -> Page[T]:
        """Return the first ``limit`` of what was found; a cursor if there is more."""
        return cls(tuple(found[:limit]), cursor_of(found[limit - 1]) if len(found) > limit else None)


def from_row(snapshot: type[T], row: RowMapping, **given: Any) -> T:
    """Return a snapshot of a row: a field that is not given is the column of its name, an instant is converted."""
    readers = _readers(snapshot)  # type: ignore[arg-type] # a class is hashable
    own = {name: read(row[name]) for name, read in readers if name not in given}
    return snapshot(**own, **given)


@cache
def _readers(snapshot: type[Any]) -> list[tuple[str, Callable[[Any], Any]]]:
    return [(one.name, optional_instant if "datetime" in str(one.type) else _as_it_is) for one in fields(snapshot)]


def _as_it_is(value: object) -> object:
    return value


def optional_instant(milliseconds: int | None) -> datetime | None:
    """Return the aware UTC instant, or None."""
    return None if milliseconds is None else ms_to_instant(milliseconds)


def nanos_to_cost(nanos: int) -> Decimal:
    """Return an amount of billionths as a plain decimal number."""
    return Decimal(nanos) / 1_000_000_000 if nanos else Decimal(0)


def _between(start: datetime | None, end: datetime | None) -> timedelta | None:
    return None if start is None or end is None else end - start
