"""Giving the stage runs of lost workers to others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.transitions.group_progress import fail_stage_run, is_draining, settle
from workflow_engine.engine.transitions.unit_of_work import for_each, with_stage_run
from workflow_engine.errors import ErrorCode
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.moves import stage_moves
from workflow_engine.store.moves.attempts import record_loss
from workflow_engine.store.moves.leases import expired_leases, leases_of
from workflow_engine.store.records import StageFailure

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
        record_loss(run, stage)
        if stage.status is StageStatus.SUSPENDED:
            _return_poll(engine, run, stage)
        else:
            _return_attempt(engine, run, stage)
        return True

    return bool(with_stage_run(engine, lease.stage_run_id, act))


def _return_attempt(engine: Engine, run: LockedRun, stage: StageRow) -> None:
    stage = replace(stage, crashes=stage.crashes + 1)
    if stage.crashes >= stage.max_crashes:
        fail_stage_run(run, stage, _worker_lost(stage, stage.crashes), engine.settings, by=None)
    elif is_draining(run):
        stage_moves.cancel(run, stage)
        settle(run, engine.settings)
    else:
        # A stage that takes its workers down must not take all of them down in a row.
        stage_moves.reap(run, stage, delay_ms=to_milliseconds(engine.settings.lease) * (stage.crashes - 1))


def _return_poll(engine: Engine, run: LockedRun, stage: StageRow) -> None:
    stage = replace(stage, poll_crashes=stage.poll_crashes + 1)
    if stage.poll_crashes >= stage.max_crashes:
        fail_stage_run(run, stage, _worker_lost(stage, stage.poll_crashes), engine.settings, by=None)
    else:
        stage_moves.reap_poll(run, stage)


def _worker_lost(stage: StageRow, crashes: int) -> StageFailure:
    return StageFailure(
        code=ErrorCode.WORKER_LOST,
        type="WorkerLost",
        message=f'Stage "{stage.stage_id}" lost its worker {crashes} times, the last time {stage.worker_id}',
    )
