"""Writing the outcome of an attempt or poll: one transaction, guarded by the claim's fence.

When the guard does not match, either an earlier call of ours took effect and its answer was lost, or the lease is
somebody else's by now and the result is discarded.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from workflow_engine.definition import Plan
from workflow_engine.engine.decisions.outcomes import (
    Completed,
    Failed,
    Mismatched,
    NotReady,
    Released,
    Retrying,
    Skipped,
    Suspended,
)
from workflow_engine.engine.transitions.group_progress import cancel_stage_run, fail_stage_run, is_draining, settle
from workflow_engine.engine.transitions.new_stage_runs import new_group
from workflow_engine.engine.transitions.release import release_mismatched, release_stage_run
from workflow_engine.engine.transitions.unit_of_work import wake_parent, with_stage_run
from workflow_engine.events import EventType
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import StageMove, StageStatus
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.moves.attempt_reports import (
    add_cost,
    report_columns,
    write_annotations,
    write_cost,
    write_log_lines,
)
from workflow_engine.store.moves.attempts import was_accepted
from workflow_engine.store.moves.outputs import write_output
from workflow_engine.store.records import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow_engine.engine.decisions.outcomes import Outcome
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Claim, NewStageRun, Report, StageRow

logger = logging.getLogger("workflow_engine.engine")

#: Larger groups take the statement by statement form: the one-statement form carries the next group's rows along.
_LARGEST_FAST_GROUP = 32


def finish(engine: Engine, claim: Claim, outcome: Outcome, report: Report, *, in_one_statement: bool = True) -> bool:
    """Record ``outcome``; durable when this returns True.

    False: the lease was lost. Only the log is kept then, and what the attempt cost, counted once.
    """
    if in_one_statement and _finish_fast(engine, claim, outcome, report):
        return True

    def act(run: LockedRun, stage: StageRow) -> bool:
        if not _is_ours(run, stage, claim):
            _owe_cleanup(run, stage, claim, outcome)
            return was_accepted(run.tx, claim.lease) or _keep_of_refused(run, claim, report)
        _write(engine, run, stage, outcome, report_columns(report))
        write_cost(run.tx, claim, report)
        write_log_lines(run.tx, claim, report.logs)
        write_annotations(run.tx, claim, report, run.now)
        return True

    accepted = with_stage_run(engine, claim.stage_run_id, act)
    if not accepted:
        logger.warning(
            "result of %s discarded: lease lost (run %s, fence %d)", claim.stage_id, claim.run_id, claim.fence
        )
    return bool(accepted)


def _finish_fast(engine: Engine, claim: Claim, outcome: Outcome, report: Report) -> bool:
    """Complete in one statement on PostgreSQL; False when that form does not apply or its guard did not match."""
    if not isinstance(outcome, Completed) or not engine.database.is_postgres or report.annotations:
        return False
    following = _following(engine, claim)
    if len(following) > _LARGEST_FAST_GROUP:
        return False
    completion = moves_postgres.Completion(
        run_id=claim.run_id,
        stage_run_id=claim.stage_run_id,
        fence=claim.fence,
        output_id=new_id(),
        payload=outcome.payload,
        report=report,
        next_stages=following,
    )
    done = engine.database.execute_one(lambda connection: moves_postgres.complete(connection, completion))
    if done is None:
        return False
    engine.dispatcher.dispatch(done.hints)
    if done.run_status.is_terminal:
        wake_parent(engine, claim.parent_stage_run_id)
    return True


def _following(engine: Engine, claim: Claim) -> Sequence[NewStageRun]:
    return new_group(Plan.from_json(claim.plan), claim.execution_group + 1, engine.settings)


def _is_ours(run: LockedRun, stage: StageRow, claim: Claim) -> bool:
    expected = stage.status in (StageStatus.RUNNING, StageStatus.SUSPENDED)
    return expected and stage.fence == claim.fence and stage.lease_id is not None and stage.is_live and run.is_live


def _keep_of_refused(run: LockedRun, claim: Claim, report: Report) -> bool:
    """Keep what holds of an attempt whatever became of its result: money is spent, lines were written."""
    if write_cost(run.tx, claim, report):
        add_cost(run.tx, claim, report)
    write_log_lines(run.tx, claim, report.logs)
    return False


def _owe_cleanup(run: LockedRun, stage: StageRow, claim: Claim, outcome: Outcome) -> None:
    """Owe ``on_cancel`` what the body had started elsewhere when it was cancelled before it could suspend."""
    was_cancelled = stage.status is StageStatus.CANCELLED and stage.fence == claim.fence + 1
    if was_cancelled and stage.suspended_state is None and isinstance(outcome, Suspended):
        run.change_stage(stage, suspended_state=outcome.state, suspended_on=outcome.on, cleanup_due_at=run.now)
        run.dispatch(stage)


def _write(engine: Engine, run: LockedRun, stage: StageRow, outcome: Outcome, columns: dict[str, Any]) -> None:
    if isinstance(outcome, Mismatched):
        release_mismatched(engine, run, stage, outcome)
        return
    columns["mismatch_since"] = None  # this worker's definitions fit
    if isinstance(outcome, Released):
        release_stage_run(engine, run, stage, **columns)
    elif isinstance(outcome, Completed):
        complete_stage_run(run, stage, outcome.payload, **columns)
        settle(run, engine.settings)
    elif isinstance(outcome, Skipped):
        run.move_stage(StageMove.SKIP, stage, **columns)
        run.close_attempt(stage.id, stage.fence, AttemptOutcome.SKIPPED)
        run.record(EventType.STAGE_SKIPPED, stage.stage_id)
        settle(run, engine.settings)
    elif isinstance(outcome, Failed):
        run.close_attempt(stage.id, stage.fence, AttemptOutcome.FAILED, outcome.failure)
        fail_stage_run(run, stage, outcome.failure, engine.settings, **columns)
    elif isinstance(outcome, Retrying):
        _retry(engine, run, stage, outcome, columns)
    elif isinstance(outcome, Suspended):
        _suspend(engine, run, stage, outcome, columns)
    else:
        _not_ready(engine, run, stage, outcome, columns)


def complete_stage_run(
    run: LockedRun, stage: StageRow, payload: str, *, new_fence: bool = False, **columns: Any
) -> None:
    """Record an output and close the attempt; the caller settles the run."""
    output_id = write_output(run, stage.stage_id, payload)
    run.move_stage(StageMove.COMPLETE, stage, new_fence=new_fence, output_id=output_id, **columns)
    run.close_attempt(stage.id, stage.fence, AttemptOutcome.COMPLETED)
    run.record(EventType.STAGE_COMPLETED, stage.stage_id, attempt=stage.attempt)


def _retry(engine: Engine, run: LockedRun, stage: StageRow, outcome: Retrying, columns: dict[str, Any]) -> None:
    run.close_attempt(stage.id, stage.fence, AttemptOutcome.FAILED, outcome.failure)
    if is_draining(run):
        fail_stage_run(run, stage, outcome.failure, engine.settings, **columns)
        return
    failure = outcome.failure
    run.move_stage(
        StageMove.RETRY,
        stage,
        available_at=run.now + outcome.delay_ms,
        postponements=stage.postponements + outcome.is_postponement,
        **failure.columns,
        **columns,
    )
    run.record(
        EventType.STAGE_RETRYING,
        stage.stage_id,
        attempt=stage.attempt,
        delay_ms=outcome.delay_ms,
        **failure.event,
    )
    if outcome.delay_ms == 0:
        run.dispatch(stage)
    else:
        run.dispatch_later(stage, outcome.delay_ms)


def _suspend(engine: Engine, run: LockedRun, stage: StageRow, outcome: Suspended, columns: dict[str, Any]) -> None:
    run.close_attempt(stage.id, stage.fence, AttemptOutcome.SUSPENDED)
    # A wake-up while the body ran must not be lost.
    until = stage.max_wait_until or run.now + outcome.max_wait_ms
    wait = 0 if stage.wake_sequence > 0 else _wait_within(until, outcome.wait_ms, run.now)
    run.move_stage(
        StageMove.SUSPEND,
        stage,
        suspended_state=outcome.state,
        suspended_on=outcome.on,
        suspended_metadata=outcome.metadata,
        suspended_at=run.now,
        next_poll_at=run.now + wait,
        poll_interval_ms=outcome.interval_ms,
        max_wait_until=until,
        poll_failures=0,
        wake_sequence=0,
        **columns,
    )
    run.record(EventType.STAGE_SUSPENDED, stage.stage_id, attempt=stage.attempt)
    if is_draining(run):
        suspended = run.stage_run(stage.id)
        if suspended is not None and cancel_stage_run(run, suspended):
            settle(run, engine.settings)
    else:
        run.dispatch_poll(stage, wait)


def _not_ready(engine: Engine, run: LockedRun, stage: StageRow, outcome: NotReady, columns: dict[str, Any]) -> None:
    was_woken = stage.wake_sequence > 0
    if outcome.state is not None:
        columns["suspended_state"] = outcome.state
    run.close_attempt(stage.id, stage.fence, AttemptOutcome.NOT_READY, outcome.failure)
    if outcome.expiry is not None and not was_woken:
        fail_stage_run(run, stage, outcome.expiry, engine.settings, cleanup_due_at=run.now, **columns)
        return
    wait = outcome.wait_ms if outcome.wait_ms is not None else stage.poll_interval_ms or 0
    wait = 0 if was_woken else _wait_within(stage.max_wait_until, wait, run.now)
    run.move_stage(
        StageMove.NOT_READY,
        stage,
        next_poll_at=run.now + wait,
        final_poll_at=run.now if stage.is_past_max_wait(run.now) else None,
        poll_failures=stage.poll_failures + outcome.is_counted if outcome.failure else 0,
        wake_sequence=0,
        **columns,
    )
    run.dispatch_poll(stage, wait)


def _wait_within(max_wait_until: int | None, wait_ms: int, now: int) -> int:
    """Return the wait until the next poll, cut so that the last poll comes as soon as ``max_wait`` is over."""
    return wait_ms if max_wait_until is None else min(wait_ms, max(0, max_wait_until + 1 - now))
