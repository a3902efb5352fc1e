"""The arrows of a stage run: one function for each entry of ``StageMove``, and no other writer of its status.

Each changes the columns, opens or closes the attempt's record, appends the event and keeps the counters of the live
group, all in the caller's transaction. PostgreSQL claims and completes with statements of its own (``postgres``), which
do the same.

The stage run was read under the lock of its run, so the row cannot differ from what the caller holds: a move that the
row refuses is a bug, and raises ``StoreError``, which undoes the transaction. Whoever may come too late looks at the
status and the fence first.

What a stage run has spent (``_BUDGETS``) is written as the caller's ``StageRow`` has it: a caller that spends one says
so with ``dataclasses.replace``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, update

from workflow_engine.errors import StoreError
from workflow_engine.events import EventType
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import StageMove, StageStatus
from workflow_engine.store.moves.attempt_reports import report_columns
from workflow_engine.store.moves.attempts import Callback, close_attempt, insert_callback, open_attempt
from workflow_engine.store.records import NOTHING_REPORTED, AttemptOutcome, ClaimKind, Report
from workflow_engine.store.schema.tables import outputs, stages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.lifecycle import Move
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import ClaimRequest, StageFailure, StageRow

_BUDGETS = ("attempt", "crashes", "postponements", "poll_failures", "poll_crashes", "mismatch_since")
_NO_LEASE = {"lease_id": None, "lease_until": None}
#: A stage run that ended well shows no error; its attempts keep theirs.
_NO_ERROR = {"error_code": None, "error_type": None, "error_message": None, "error_traceback": None}
_ENDED_WELL = (StageStatus.COMPLETED, StageStatus.SKIPPED)


@dataclass(frozen=True, slots=True)
class Suspension:
    """What a stage run waits for, and for how long; the fields are columns."""

    suspended_state: str
    suspended_on: str
    suspended_metadata: str | None
    poll_interval_ms: int
    next_poll_at: int
    max_wait_until: int


def claim(run: LockedRun, stage: StageRow, request: ClaimRequest) -> None:
    """PENDING -> RUNNING: a worker takes it for one attempt, under a new fence and lease."""
    attempt = stage.attempt + 1
    started = {"attempt": attempt, "started_at": func.coalesce(stages.c.started_at, run.now)}
    _move(run, StageMove.CLAIM, stage, new_fence=True, **started, **_lease(run, stage, request))
    open_attempt(run, stage, request, ClaimKind.EXECUTE, attempt)
    run.record(EventType.STAGE_STARTED, stage.stage_id, attempt=attempt)


def claim_poll(run: LockedRun, stage: StageRow, request: ClaimRequest) -> None:
    """SUSPENDED -> SUSPENDED: a worker takes it for one poll, under a new fence and lease."""
    polls = stages.c.polls + 1
    _move(run, StageMove.CLAIM_POLL, stage, new_fence=True, polls=polls, **_lease(run, stage, request))
    open_attempt(run, stage, request, ClaimKind.POLL, stage.attempt)


def complete(run: LockedRun, stage: StageRow, payload: str, by: Report | Callback) -> None:
    """RUNNING | SUSPENDED -> COMPLETED: its output is recorded, which the holder of its claim, or a callback, told."""
    output_id = new_id()
    run.tx.execute(
        outputs.insert().values(
            id=output_id, run_id=run.id, stage_id=stage.stage_id, payload=payload, created_at=run.now
        )
    )
    _move(run, StageMove.COMPLETE, stage, new_fence=not isinstance(by, Report), output_id=output_id, **_reported(by))
    _close(run, stage, AttemptOutcome.COMPLETED, by)
    run.record(EventType.STAGE_COMPLETED, stage.stage_id, attempt=stage.attempt)


def suspend(run: LockedRun, stage: StageRow, suspension: Suspension, report: Report) -> None:
    """RUNNING -> SUSPENDED: it waits for something outside. The caller sends for its poll."""
    columns = {"suspended_at": run.now, "wake_sequence": 0, **asdict(suspension), **_reported(report)}
    _move(run, StageMove.SUSPEND, stage, **columns)
    _close(run, stage, AttemptOutcome.SUSPENDED, report)
    run.record(EventType.STAGE_SUSPENDED, stage.stage_id, attempt=stage.attempt)


def not_ready(
    run: LockedRun,
    stage: StageRow,
    *,
    delay_ms: int,
    report: Report,
    state: str | None = None,
    failure: StageFailure | None = None,
) -> None:
    """SUSPENDED -> SUSPENDED: a poll found it not ready, or could not find out; the next is due after the delay.

    ``state`` replaces the state of the suspension; None keeps it.
    """
    new_state: dict[str, Any] = {} if state is None else {"suspended_state": state}
    _move(
        run,
        StageMove.NOT_READY,
        stage,
        next_poll_at=run.now + delay_ms,
        final_poll_at=run.now if stage.is_past_max_wait(run.now) else None,
        wake_sequence=0,
        **new_state,
        **_reported(report),
    )
    _close(run, stage, AttemptOutcome.NOT_READY, report, failure)
    run.dispatch_poll(stage, delay_ms)


def retry(run: LockedRun, stage: StageRow, failure: StageFailure, *, delay_ms: int, report: Report) -> None:
    """RUNNING -> PENDING: the attempt failed, and another is due after the delay."""
    available_at = run.now + delay_ms
    _move(run, StageMove.RETRY, stage, available_at=available_at, **failure.columns, **_reported(report))
    _close(run, stage, AttemptOutcome.FAILED, report, failure)
    run.record(EventType.STAGE_RETRYING, stage.stage_id, attempt=stage.attempt, delay_ms=delay_ms, **failure.event)
    run.dispatch(stage, delay_ms)


def release(run: LockedRun, stage: StageRow, delay_ms: int, report: Report, reason: StageFailure | None) -> None:
    """RUNNING -> PENDING: its worker gives it back; the attempt does not count, and another is due after the delay."""
    columns = {"attempt": stage.attempt - 1, "available_at": run.now + delay_ms, **_reported(report)}
    _move(run, StageMove.RELEASE, stage, new_fence=True, **columns)
    _close(run, stage, AttemptOutcome.RELEASED, report, reason)
    run.record(EventType.STAGE_RELEASED, stage.stage_id, attempt=stage.attempt)
    run.dispatch(stage, delay_ms)


def release_poll(run: LockedRun, stage: StageRow, delay_ms: int, report: Report, reason: StageFailure | None) -> None:
    """SUSPENDED -> SUSPENDED: its worker gives the poll back, and another is due after the delay."""
    next_poll_at = run.now + delay_ms
    _move(run, StageMove.RELEASE_POLL, stage, new_fence=True, next_poll_at=next_poll_at, **_reported(report))
    _close(run, stage, AttemptOutcome.RELEASED, report, reason)
    run.dispatch_poll(stage, delay_ms)


def reap(run: LockedRun, stage: StageRow, *, delay_ms: int) -> None:
    """RUNNING -> PENDING: its worker was lost (``record_loss``), and another attempt is due after the delay."""
    _move(run, StageMove.REAP, stage, new_fence=True, available_at=run.now + delay_ms)
    run.dispatch(stage, delay_ms)


def reap_poll(run: LockedRun, stage: StageRow) -> None:
    """SUSPENDED -> SUSPENDED: its worker was lost in a poll (``record_loss``), and another poll is due at once."""
    # The last poll is asked for anew: its grace is for finding a worker, and this one had one.
    asked_at = run.now if stage.is_past_max_wait(run.now) else None
    _move(run, StageMove.REAP_POLL, stage, new_fence=True, next_poll_at=run.now, final_poll_at=asked_at)
    run.dispatch_poll(stage)


def fail(
    run: LockedRun,
    stage: StageRow,
    failure: StageFailure,
    by: Report | Callback | None,
    *,
    owes_cleanup: bool = False,
) -> None:
    """PENDING | RUNNING | SUSPENDED -> FAILED: it failed for good; the first of a group to fail is its run's cause.

    Args:
        run: Its run.
        stage: What fails.
        failure: Why.
        by: What the holder of its claim reports, or the callback that told it; None where no claim is open.
        owes_cleanup: Whether its ``on_cancel`` is to be called.
    """
    cleanup = {"cleanup_due_at": run.now} if owes_cleanup else {}
    columns = {**failure.columns, **cleanup, **_reported(by)}
    _move(run, StageMove.FAIL, stage, new_fence=not isinstance(by, Report), **columns)
    _close(run, stage, AttemptOutcome.FAILED, by, failure)
    run.record(EventType.STAGE_FAILED, stage.stage_id, **failure.event)
    if run.failed == 1:
        run.change(error_code=failure.code.value, error_message=failure.message, failed_stage_run_id=stage.id)


def skip(run: LockedRun, stage: StageRow, report: Report) -> None:
    """RUNNING -> SKIPPED: its skip_if said so; it has no output."""
    _move(run, StageMove.SKIP, stage, **_reported(report))
    _close(run, stage, AttemptOutcome.SKIPPED, report)
    run.record(EventType.STAGE_SKIPPED, stage.stage_id)


def cancel(
    run: LockedRun, stage: StageRow, why: Mapping[str, Any] | None = None, report: Report = NOTHING_REPORTED
) -> None:
    """PENDING | RUNNING | SUSPENDED -> CANCELLED: the run, or the failure of a member of its group, ended it.

    Its lease, if there is one, is taken away; a suspended stage run is owed its ``on_cancel``.

    Args:
        run: Its run.
        stage: What is cancelled.
        why: What the event tells; None for the failure of another member of its group.
        report: What the holder of its claim reports, where the holder gives it up.
    """
    owed = stage.suspended_state is not None
    cleanup = {"cleanup_due_at": run.now} if owed else {}
    _move(run, StageMove.CANCEL, stage, new_fence=True, **cleanup, **_reported(report))
    close_attempt(run, stage, AttemptOutcome.CANCELLED)
    run.record(EventType.STAGE_CANCELLED, stage.stage_id, **(why or {"reason": "stage failed", **run.cause()}))
    if owed:
        run.dispatch(stage)


def _move(run: LockedRun, move: Move[StageStatus], stage: StageRow, *, new_fence: bool = False, **columns: Any) -> None:
    """Move one stage run whose status and fence are those of ``stage``, and keep the group's counters.

    ``new_fence`` takes it away from whoever holds its lease: for moves that the holder did not make.
    """
    if stage.status not in move.sources:
        raise StoreError(f"Stage run {stage.id} is {stage.status}; the move {move.name} is not allowed")
    ended = {"completed_at": run.now, "next_poll_at": None} if move.target.is_terminal else {}
    cleared = {**(_NO_ERROR if move.target in _ENDED_WELL else {}), **_NO_LEASE}
    spent = {name: getattr(stage, name) for name in _BUDGETS}
    moved = run.tx.execute(
        update(stages)
        .where(stages.c.id == stage.id, stages.c.fence == stage.fence, stages.c.status == stage.status.value)
        .values({"status": move.target.value, "fence": stage.fence + new_fence, **ended, **cleared, **spent, **columns})
    )
    if moved.rowcount != 1:
        raise StoreError(f"Stage run {stage.id} is not what was read of it; the move {move.name} is not made")
    if move.target.is_terminal and stage.is_live and stage.execution_group == run.row.current_group:
        run.change(remaining=run.row.remaining - 1, failed=run.failed + (move.target is StageStatus.FAILED))


def _lease(run: LockedRun, stage: StageRow, request: ClaimRequest) -> dict[str, Any]:
    is_latest = stage.dispatch_number == request.dispatch_number
    return {
        "lease_id": request.nonce,
        "lease_until": run.now + request.lease_ms,
        "worker_id": request.worker_id,
        "claimed_at": run.now,
        "claimed_dispatch_at": stages.c.dispatched_at if is_latest else stages.c.claimed_dispatch_at,
    }


def _reported(by: Report | Callback | None) -> dict[str, Any]:
    return report_columns(by) if isinstance(by, Report) else {}


def _close(
    run: LockedRun,
    stage: StageRow,
    outcome: AttemptOutcome,
    by: Report | Callback | None,
    failure: StageFailure | None = None,
) -> None:
    """Close the attempt with what its holder reports; a callback takes it away and has a record of its own."""
    if isinstance(by, Callback):
        close_attempt(run, stage, AttemptOutcome.CANCELLED)
        insert_callback(run, stage, outcome, by, failure)
    elif by is not None:
        close_attempt(run, stage, outcome, failure, by)
