"""Ending what waited or ran longer than it may."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.decisions.outcomes import passed_max_wait, wait_timeout
from workflow_engine.engine.transitions.group_progress import fail_stage_run
from workflow_engine.engine.transitions.unit_of_work import for_each, with_run, with_stage_run
from workflow_engine.errors import ErrorCode
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.connection.error_texts import summarize_any
from workflow_engine.store.moves import changes, run_moves, stage_moves
from workflow_engine.store.records import Limit, StageFailure
from workflow_engine.store.upkeep.overdue import expired_in_queue, expired_suspensions, overdue_runs

if TYPE_CHECKING:
    from workflow_engine.definition import Workflow
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import StageRow

logger = logging.getLogger("workflow_engine.engine")


def expire_suspensions(engine: Engine) -> int:
    """Ask for the last poll of suspensions past their ``max_wait``; fail those whose last poll nobody took.

    Whatever was waited for may have come while nobody could ask, so the last poll decides. One that is under way is
    ended by its time limit, and fails the stage unless it brings the output. Returns how many were asked for or failed.
    """
    grace_ms = to_milliseconds(engine.settings.final_poll_grace)

    def act(run: LockedRun, stage: StageRow) -> bool:
        is_idle = stage.status is StageStatus.SUSPENDED and stage.is_live and stage.lease_id is None
        if not is_idle or not stage.is_past_max_wait(run.now):
            return False
        if stage.final_poll_at is None:
            changes.ask_for_last_poll(run, stage)
            return True
        if stage.final_poll_at >= run.now - grace_ms:
            return False
        failure = wait_timeout(stage.stage_id, _max_wait_of(engine, run, stage), "nobody took its last poll")
        fail_stage_run(run, stage, failure, engine.settings, by=None, owes_cleanup=True)
        return True

    found = engine.database.read(lambda tx: expired_suspensions(tx, engine.settings.sweep_batch, grace_ms=grace_ms))
    return for_each(engine, found, lambda stage_run_id: with_stage_run(engine, stage_run_id, act))


def expire_queued(engine: Engine) -> int:
    """Fail stage runs that nobody took within their ``queue_timeout``; return how many."""

    def act(run: LockedRun, stage: StageRow) -> bool:
        if stage.status is not StageStatus.PENDING or stage.fence > 0 or not stage.is_live:
            return False
        until = stage.queue_timeout_at or run.now
        passed = Limit("queue_timeout", "stage", until - stage.available_at, until)
        problem = f'No worker took stage "{stage.stage_id}" from queue "{stage.queue}" within {passed}'
        failure = StageFailure(ErrorCode.QUEUE_TIMEOUT, "QueueTimeout", problem, limit=passed)
        fail_stage_run(run, stage, failure, engine.settings, by=None)
        return True

    found = engine.database.read(lambda tx: expired_in_queue(tx, engine.settings.sweep_batch))
    return for_each(engine, found, lambda stage_run_id: with_stage_run(engine, stage_run_id, act))


def expire_runs(engine: Engine) -> int:
    """Fail live runs past their deadline and cancel their stage runs; return how many."""

    def act(run: LockedRun) -> bool:
        deadline = run.row.deadline_at
        if not run.is_live or deadline is None or deadline >= run.now:
            return False
        passed = Limit("deadline", "run", _deadline_ms(engine, run, deadline), deadline)
        failure = StageFailure(ErrorCode.DEADLINE, "Deadline", f"The run passed {passed}", limit=passed)
        for stage in run.active_stage_runs():
            stage_moves.cancel(run, stage, {"reason": "deadline passed", **failure.event})
        # The stage that failed, while its siblings went on, is the cause.
        run_moves.fail(run, None if run.failed > 0 else failure)
        return True

    found = engine.database.read(lambda tx: overdue_runs(tx, engine.settings.sweep_batch))
    return for_each(engine, found, lambda run_id: with_run(engine, run_id, act))


def _deadline_ms(engine: Engine, run: LockedRun, deadline: int) -> int:
    """Return the length of a deadline; that of a rerun counts anew and is the workflow's."""
    workflow = _find_workflow(engine, run)
    if run.generation > 0 and workflow is not None and workflow.deadline is not None:
        return to_milliseconds(workflow.deadline)
    return deadline - run.row.created_at


def _max_wait_of(engine: Engine, run: LockedRun, stage: StageRow) -> Limit:
    workflow = _find_workflow(engine, run)
    definition = workflow.find_stage(stage.stage_id) if workflow else None
    return passed_max_wait(stage.max_wait_until, stage.suspended_at, definition, engine.settings)


def _find_workflow(engine: Engine, run: LockedRun) -> Workflow[Any, Any] | None:
    """Return the definition, for what is said about a limit: without it the limit ends things all the same."""
    try:
        return engine.registry.find(run.row.workflow_id)
    except Exception as error:  # noqa: BLE001 - a registry of the user's
        logger.warning("workflow %s cannot be looked up: %s", run.row.workflow_id, summarize_any(error))
        return None
