"""Recording the outcome of an attempt or poll: one transaction, guarded by the claim's fence.

When the guard does not match, either an earlier call of ours took effect and its answer was lost, or the lease is
somebody else's by now and the result is discarded.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

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
from workflow_engine.engine.transitions.group_progress import fail_stage_run, is_draining, settle
from workflow_engine.engine.transitions.new_stage_runs import new_group
from workflow_engine.engine.transitions.release import release_mismatched, release_stage_run
from workflow_engine.engine.transitions.unit_of_work import wake_parent, with_stage_run
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.moves import changes, stage_moves
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.moves.attempt_reports import keep_report, keep_report_of_refused
from workflow_engine.store.moves.attempts import close_attempt, was_accepted
from workflow_engine.store.records import AttemptOutcome

if TYPE_CHECKING:
    from workflow_engine.engine.decisions.outcomes import Outcome
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Claim, Report, StageRow

logger = logging.getLogger("workflow_engine.engine")

#: Larger groups take the statement by statement form: the one-statement form carries the next group's rows along.
_LARGEST_FAST_GROUP = 32


def finish(engine: Engine, claim: Claim, outcome: Outcome, report: Report, *, in_one_statement: bool = True) -> bool:
    """Record ``outcome``; durable when this returns True.

    False: the lease was lost. Then the log lines of the attempt are kept, and its cost is counted once; nothing else is.
    """
    if in_one_statement and _finish_fast(engine, claim, outcome, report):
        return True

    def act(run: LockedRun, stage: StageRow) -> bool:
        if not _is_ours(run, stage, claim):
            return _refuse(run, stage, claim, outcome, report)
        _write(engine, run, stage, outcome, report)
        keep_report(run.tx, claim, report, run.now)
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
    following = new_group(Plan.from_json(claim.plan), claim.execution_group + 1, engine.settings)
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


def _is_ours(run: LockedRun, stage: StageRow, claim: Claim) -> bool:
    expected = stage.status in (StageStatus.RUNNING, StageStatus.SUSPENDED)
    return expected and stage.fence == claim.fence and stage.lease_id is not None and stage.is_live and run.is_live


def _refuse(run: LockedRun, stage: StageRow, claim: Claim, outcome: Outcome, report: Report) -> bool:
    """Keep what holds of an attempt whose result comes too late; True where its own outcome is on record already.

    A body that was cancelled before it could suspend is owed ``on_cancel`` for what it had started elsewhere.
    """
    was_cancelled = stage.status is StageStatus.CANCELLED and stage.fence == claim.fence + 1
    if was_cancelled and stage.suspended_state is None and isinstance(outcome, Suspended):
        changes.owe_cleanup(run, stage, outcome.state, outcome.on)
    if was_accepted(run.tx, claim.lease):
        return True
    keep_report_of_refused(run.tx, claim, report)
    return False


def _write(  # noqa: C901 - one case for each outcome
    engine: Engine, run: LockedRun, stage: StageRow, outcome: Outcome, report: Report
) -> None:
    if not isinstance(outcome, Mismatched):
        stage = replace(stage, mismatch_since=None)  # this worker's definitions fit
    match outcome:
        case Completed(payload):
            stage_moves.complete(run, stage, payload, report)
            settle(run, engine.settings)
        case Skipped():
            stage_moves.skip(run, stage, report)
            settle(run, engine.settings)
        case Failed(failure):
            fail_stage_run(run, stage, failure, engine.settings, by=report)
        case Retrying():
            _retry(engine, run, stage, outcome, report)
        case Suspended():
            _suspend(engine, run, stage, outcome, report)
        case NotReady():
            _not_ready(engine, run, stage, outcome, report)
        case Released():
            release_stage_run(engine, run, stage, report)
        case Mismatched():
            release_mismatched(engine, run, stage, outcome, report)
        case _:
            assert_never(outcome)


def _retry(engine: Engine, run: LockedRun, stage: StageRow, outcome: Retrying, report: Report) -> None:
    if is_draining(run):
        fail_stage_run(run, stage, outcome.failure, engine.settings, by=report)
        return
    spent = replace(stage, postponements=stage.postponements + outcome.is_postponement)
    stage_moves.retry(run, spent, outcome.failure, delay_ms=outcome.delay_ms, report=report)


def _suspend(engine: Engine, run: LockedRun, stage: StageRow, outcome: Suspended, report: Report) -> None:
    until = stage.max_wait_until or run.now + outcome.max_wait_ms
    # A wake-up while the body ran must not be lost.
    wait = 0 if stage.wake_sequence > 0 else _wait_within(until, outcome.wait_ms, run.now)
    suspension = stage_moves.Suspension(
        suspended_state=outcome.state,
        suspended_on=outcome.on,
        suspended_metadata=outcome.metadata,
        poll_interval_ms=outcome.interval_ms,
        next_poll_at=run.now + wait,
        max_wait_until=until,
    )
    stage_moves.suspend(run, replace(stage, poll_failures=0), suspension, report)
    if not is_draining(run):
        run.dispatch_poll(stage, wait)
    elif (suspended := run.stage_run(stage.id)) is not None:
        stage_moves.cancel(run, suspended)
        settle(run, engine.settings)


def _not_ready(engine: Engine, run: LockedRun, stage: StageRow, outcome: NotReady, report: Report) -> None:
    was_woken = stage.wake_sequence > 0
    if outcome.expiry is not None and not was_woken:
        if outcome.state is not None:
            changes.replace_state(run, stage, outcome.state)
        close_attempt(run, stage, AttemptOutcome.NOT_READY, outcome.failure, report)
        fail_stage_run(run, stage, outcome.expiry, engine.settings, by=report, owes_cleanup=True)
        return
    wait = outcome.wait_ms if outcome.wait_ms is not None else stage.poll_interval_ms or 0
    stage_moves.not_ready(
        run,
        replace(stage, poll_failures=stage.poll_failures + outcome.is_counted if outcome.failure else 0),
        delay_ms=0 if was_woken else _wait_within(stage.max_wait_until, wait, run.now),
        state=outcome.state,
        failure=outcome.failure,
        report=report,
    )


def _wait_within(max_wait_until: int | None, wait_ms: int, now: int) -> int:
    """Return the wait until the next poll, cut so that the last poll comes as soon as ``max_wait`` is over."""
    return wait_ms if max_wait_until is None else min(wait_ms, max(0, max_wait_until + 1 - now))
