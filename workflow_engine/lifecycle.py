"""The two state machines: statuses, and the tables of legal moves.

Pure. Every entry has one function in the store (``store.moves.run_moves``, ``store.moves.stage_moves``), which refuses
whatever starts elsewhere, PostgreSQL's statements are composed of these tables, and the diagrams in the documentation are
generated from them, so the tables cannot disagree with the behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class RunStatus(StrEnum):
    """Status of a run."""

    #: Accepted; no stage has been claimed yet.
    PENDING = "PENDING"
    #: At least one stage has been claimed and the run has not ended.
    RUNNING = "RUNNING"
    #: Shown for a RUNNING run all of whose live stage runs are suspended; never stored.
    SUSPENDED = "SUSPENDED"
    #: Every group ended well; the run has an output.
    COMPLETED = "COMPLETED"
    #: A stage failed for good, or the run passed its deadline.
    FAILED = "FAILED"
    #: Somebody cancelled it.
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether only a rerun leaves this status."""
        return self in TERMINAL_RUN


class StageStatus(StrEnum):
    """Status of a stage run."""

    #: Waits for a worker, or for ``available_at`` (a retry).
    PENDING = "PENDING"
    #: A worker holds its lease.
    RUNNING = "RUNNING"
    #: Parked on something outside; polled from ``next_poll_at`` on.
    SUSPENDED = "SUSPENDED"
    #: Its output is recorded.
    COMPLETED = "COMPLETED"
    #: Failed for good; its error is recorded.
    FAILED = "FAILED"
    #: Ended by a cancel, by a sibling's failure, or by a rerun of the run.
    CANCELLED = "CANCELLED"
    #: Its ``skip_if`` said so; it has no output.
    SKIPPED = "SKIPPED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing leaves this status."""
        return self not in ACTIVE_STAGE


TERMINAL_RUN = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
LIVE_RUN = frozenset({RunStatus.PENDING, RunStatus.RUNNING})
ACTIVE_STAGE = frozenset({StageStatus.PENDING, StageStatus.RUNNING, StageStatus.SUSPENDED})


S = TypeVar("S", RunStatus, StageStatus)


@dataclass(frozen=True, slots=True)
class Move(Generic[S]):
    """One arrow of a state diagram: its name, where it may start and where it ends."""

    name: str
    sources: frozenset[S]
    target: S
    meaning: str


def _run(name: str, sources: frozenset[RunStatus], target: RunStatus, meaning: str) -> Move[RunStatus]:
    return Move(name, sources, target, meaning)


class RunMove:
    """Every legal move of a run."""

    START = _run("start", frozenset({RunStatus.PENDING}), RunStatus.RUNNING, "its first stage run is claimed")
    COMPLETE = _run("complete", frozenset({RunStatus.RUNNING}), RunStatus.COMPLETED, "its last group ended well")
    FAIL = _run("fail", LIVE_RUN, RunStatus.FAILED, "a stage failed for good, or the deadline passed")
    CANCEL = _run("cancel", LIVE_RUN, RunStatus.CANCELLED, "somebody cancelled it")
    RERUN = _run("rerun", TERMINAL_RUN, RunStatus.RUNNING, "a new generation starts at an earlier group")


def _stage(name: str, sources: set[StageStatus], target: StageStatus, meaning: str) -> Move[StageStatus]:
    return Move(name, frozenset(sources), target, meaning)


class StageMove:
    """Every legal move of a stage run. A poll is a claim that leaves it SUSPENDED."""

    CLAIM = _stage("claim", {StageStatus.PENDING}, StageStatus.RUNNING, "a worker takes it for one attempt")
    COMPLETE = _stage(
        "complete", {StageStatus.RUNNING, StageStatus.SUSPENDED}, StageStatus.COMPLETED, "its output is recorded"
    )
    SUSPEND = _stage("suspend", {StageStatus.RUNNING}, StageStatus.SUSPENDED, "it waits for something outside")
    CLAIM_POLL = _stage("claim_poll", {StageStatus.SUSPENDED}, StageStatus.SUSPENDED, "a worker takes it for one poll")
    NOT_READY = _stage("not_ready", {StageStatus.SUSPENDED}, StageStatus.SUSPENDED, "a poll found it not ready")
    RETRY = _stage("retry", {StageStatus.RUNNING}, StageStatus.PENDING, "the attempt failed and another is due later")
    RELEASE = _stage(
        "release", {StageStatus.RUNNING}, StageStatus.PENDING, "the worker gives it back without burning an attempt"
    )
    RELEASE_POLL = _stage(
        "release_poll", {StageStatus.SUSPENDED}, StageStatus.SUSPENDED, "the worker gives the poll back"
    )
    REAP = _stage("reap", {StageStatus.RUNNING}, StageStatus.PENDING, "its lease expired; counted as a crash")
    REAP_POLL = _stage("reap_poll", {StageStatus.SUSPENDED}, StageStatus.SUSPENDED, "the lease of its poll expired")
    FAIL = _stage("fail", set(ACTIVE_STAGE), StageStatus.FAILED, "it failed for good")
    SKIP = _stage("skip", {StageStatus.RUNNING}, StageStatus.SKIPPED, "its skip_if said so")
    CANCEL = _stage("cancel", set(ACTIVE_STAGE), StageStatus.CANCELLED, "the run, or a sibling's failure, ended it")


RUN_MOVES: tuple[Move[RunStatus], ...] = tuple(m for m in vars(RunMove).values() if isinstance(m, Move))
STAGE_MOVES: tuple[Move[StageStatus], ...] = tuple(m for m in vars(StageMove).values() if isinstance(m, Move))


def to_mermaid(moves: Iterable[Move[RunStatus]] | Iterable[Move[StageStatus]], initial: str) -> str:
    """Return the state diagram of the moves as Mermaid text; the documentation carries it word for word."""
    lines = ["stateDiagram-v2", f"    [*] --> {initial}"]
    labels: dict[tuple[str, str], list[str]] = {}
    for move in moves:
        for source in sorted(move.sources):
            labels.setdefault((source.value, move.target.value), []).append(move.name)
    lines += [f"    {source} --> {target}: {', '.join(names)}" for (source, target), names in labels.items()]
    return "\n".join(lines)
