"""Ending what waited or ran longer than it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.engine.advance import cancel_stage_run, fail_stage_run
from workflow_engine.engine.units import for_each, with_run, with_stage_run
from workflow_engine.errors import ErrorCode
from workflow_engine.events import EventType
from workflow_engine.lifecycle import RunMove, StageStatus
from workflow_engine.store.overdue import expired_in_queue, expired_suspensions, overdue_runs
from workflow_engine.store.records import AttemptOutcome, StageFailure

if TYPE_CHECKING:
    from workflow_engine.engine.core import Engine
    from workflow_engine.store.moves import LockedRun
    from workflow_engine.store.records import StageRow


def expire_suspensions(engine: Engine) -> int:
    """Fail suspended stage runs past their ``max_wait``, whatever their poll does; return how many."""

    def act(run: LockedRun, stage: StageRow) -> bool:
        limit = stage.max_wait_until
        if stage.status is not StageStatus.SUSPENDED or not stage.is_live or limit is None or limit >= run.now:
            return False
        failure = StageFailure(
            ErrorCode.WAIT_TIMEOUT, "WaitTimeout", f'Stage "{stage.stage_id}" waited past its max_wait'
        )
        run.close_attempt(stage.id, stage.fence, AttemptOutcome.CANCELLED)
        fail_stage_run(run, stage, failure, engine.settings, new_fence=True, cleanup_due_at=run.now)
        return True

    found = engine.database.read(lambda tx: expired_suspensions(tx, engine.settings.sweep_batch))
    return for_each(engine, found, lambda stage_run_id: with_stage_run(engine, stage_run_id, act))


def expire_queued(engine: Engine) -> int:
    """Fail stage runs that nobody took within their ``queue_timeout``; return how many."""

    def act(run: LockedRun, stage: StageRow) -> bool:
        if stage.status is not StageStatus.PENDING or stage.fence > 0 or not stage.is_live:
            return False
        problem = f'No worker took stage "{stage.stage_id}" from queue "{stage.queue}" within its queue_timeout'
        failure = StageFailure(ErrorCode.QUEUE_TIMEOUT, "QueueTimeout", problem)
        return fail_stage_run(run, stage, failure, engine.settings, new_fence=True)

    found = engine.database.read(lambda tx: expired_in_queue(tx, engine.settings.sweep_batch))
    return for_each(engine, found, lambda stage_run_id: with_stage_run(engine, stage_run_id, act))


def expire_runs(engine: Engine) -> int:
    """Fail live runs past their deadline and cancel their stage runs; return how many."""

    def act(run: LockedRun) -> bool:
        deadline = run.row["deadline_at"]
        if not run.is_live or deadline is None or deadline >= run.now:
            return False
        for stage in run.active_stage_runs():
            cancel_stage_run(run, stage)
        cause: dict[str, Any] = {}
        if run.failed == 0:  # else the stage that failed, while its siblings went on, is the cause
            cause = {"error_code": ErrorCode.DEADLINE.value, "error_message": "The run passed its deadline"}
        run.move(RunMove.FAIL, EventType.RUN_FAILED, **cause)
        return True

    found = engine.database.read(lambda tx: overdue_runs(tx, engine.settings.sweep_batch))
    return for_each(engine, found, lambda run_id: with_run(engine, run_id, act))
