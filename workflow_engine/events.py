"""Events: the durable, ordered history of a run.

An event is written in the transaction of the move that it tells of. Its ``sequence`` counts 1, 2, 3 … within
its run without gaps, so a subscriber that remembers the last sequence it saw misses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

N = TypeVar("N", bound=StrEnum)


class EventType(StrEnum):
    """Names of events: the thing, then what happened to it."""

    RUN_CREATED = "run.created"
    RUN_STARTED = "run.started"
    RUN_COMPLETED = "run.completed"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    RUN_RERUN = "run.rerun"
    RUN_PAUSED = "run.paused"
    RUN_RESUMED = "run.resumed"
    STAGE_STARTED = "stage.started"
    STAGE_PROGRESS = "stage.progress"
    STAGE_COMPLETED = "stage.completed"
    STAGE_SUSPENDED = "stage.suspended"
    STAGE_RETRYING = "stage.retrying"
    STAGE_RELEASED = "stage.released"
    STAGE_LOST = "stage.lost"
    STAGE_FAILED = "stage.failed"
    STAGE_SKIPPED = "stage.skipped"
    STAGE_CANCELLED = "stage.cancelled"


def read_name(kind: type[N], text: str) -> N:
    """Return the member for a stored name; for one that a later release wrote, a stranger of the same type.

    A stranger equals its text, and no member: a reader shows it, and code that compares with members passes it over.
    """
    try:
        return kind(text)
    except ValueError:
        stranger = str.__new__(kind, text)
        stranger._name_ = stranger._value_ = text
        return stranger


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a run."""

    run_id: str
    #: 1-based position in the run's history.
    sequence: int
    generation: int
    type: EventType
    #: The stage it concerns, or None for the run itself.
    stage_id: str | None
    #: Details that depend on the type; never inputs or outputs.
    payload: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
