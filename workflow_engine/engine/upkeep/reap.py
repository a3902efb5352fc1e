"""Giving the stage runs of lost workers to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.transitions.group_progress import cancel_stage_run, fail_stage_run, is_draining, settle
from workflow_engine.engine.transitions.unit_of_work import for_each, with_stage_run
from workflow_engine.errors import ErrorCode
from workflow_engine.events import EventType
from workflow_engine.lifecycle import StageMove, StageStatus
from workflow_engine.store.moves.leases import expired_leases, leases_of
from workflow_engine.store.records import AttemptOutcome, StageFailure

if TYPE_CHECKING:
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Lease, StageRow


def reap_expired(engine: Engine) -> int:
    """Reap leases that ran out, one transaction each; return how many were."""
    leases = engine.database.read(lambda tx: expired_leases(tx, engine.settings.sweep_batch))
    return for_each(engine, leases, lambda lease: _reap(engine, lease, must_be_expired=True))


def reap_worker(engine: Engine, worker_id_prefix: str) -> int:
    """Reap the claims of workers whose id starts so, because they are known to be dead; return how many were."""
    leases = engine.database.read(lambda tx: leases_of(tx, worker_id_prefix))
    return for_each(engine, leases, lambda lease: _reap(engine, lease, must_be_expired=False))


def _reap(engine: Engine, lease: Lease, *, must_be_expired: bool) -> bool:
    def act(run: LockedRun, stage: StageRow) -> bool:
        # What was read before the lock proves nothing: the stage may have ended, or been claimed anew, since.
        if stage.fence != lease.fence or stage.lease_until is None:
            return False
        if must_be_expired and stage.lease_until >= run.now:
            return False
        run.close_attempt(stage.id, stage.fence, AttemptOutcome.LOST)
        run.record(EventType.STAGE_LOST, stage.stage_id, attempt=stage.attempt, worker_id=stage.worker_id)
        if stage.status is StageStatus.SUSPENDED:
            _return_poll(engine, run, stage)
        else:
            _return_attempt(engine, run, stage)
        return True

    return bool(with_stage_run(engine, lease.stage_run_id, act))


def _return_attempt(engine: Engine, run: LockedRun, stage: StageRow) -> None:
    crashes = stage.crashes + 1
    if crashes >= stage.max_crashes:
        fail_stage_run(run, stage, _worker_lost(stage, crashes), engine.settings, new_fence=True, crashes=crashes)
    elif is_draining(run):
        run.change_stage(stage, crashes=crashes)
        cancel_stage_run(run, stage)
        settle(run, engine.settings)
    else:
        # A stage that takes its workers down must not take all of them down in a row.
        delay = to_milliseconds(engine.settings.lease) * (crashes - 1)
        run.move_stage(StageMove.REAP, stage, new_fence=True, crashes=crashes, available_at=run.now + delay)
        run.dispatch(stage) if delay == 0 else run.dispatch_later(stage, delay)


def _return_poll(engine: Engine, run: LockedRun, stage: StageRow) -> None:
    crashes = stage.poll_crashes + 1
    if crashes >= stage.max_crashes:
        fail_stage_run(run, stage, _worker_lost(stage, crashes), engine.settings, new_fence=True, poll_crashes=crashes)
        return
    # The last poll is asked for anew: its grace is for finding a worker, and this one had one.
    asked_at = run.now if stage.is_past_max_wait(run.now) else None
    run.move_stage(
        StageMove.NOT_READY, stage, new_fence=True, poll_crashes=crashes, next_poll_at=run.now, final_poll_at=asked_at
    )
    run.dispatch_poll(stage)


def _worker_lost(stage: StageRow, crashes: int) -> StageFailure:
    return StageFailure(
        code=ErrorCode.WORKER_LOST,
        type="WorkerLost",
        message=f'Stage "{stage.stage_id}" lost its worker {crashes} times, the last time {stage.worker_id}',
    )
