"""What follows when a stage run ends: siblings, the next group, the end of the run. Inside the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.definition import GroupFailurePolicy, Plan
from workflow_engine.definition.workflows.plan import failure_policy
from workflow_engine.engine.transitions.new_stage_runs import new_group
from workflow_engine.events import EventType
from workflow_engine.lifecycle import RunMove, StageMove, StageStatus
from workflow_engine.store.records import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.settings import Settings
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import StageFailure, StageRow


def fail_stage_run(
    run: LockedRun,
    stage: StageRow,
    failure: StageFailure,
    settings: Settings,
    *,
    new_fence: bool = False,
    **columns: Any,
) -> bool:
    """Fail a stage run for good and let its group's failure policy follow; False when somebody else was first.

    ``new_fence`` is for failures that the holder of its lease, if there is one, does not report itself.
    """
    moved = run.move_stage(
        StageMove.FAIL,
        stage,
        new_fence=new_fence,
        **failure.columns,
        **columns,
    )
    if not moved:
        return False
    run.record(EventType.STAGE_FAILED, stage.stage_id, **failure.event)
    if run.failed == 1:
        run.set(error_code=failure.code.value, error_message=failure.message, failed_stage_run_id=stage.id)
    _end_siblings(run, policy_of(run))
    settle(run, settings)
    return True


def policy_of(run: LockedRun) -> GroupFailurePolicy:
    """Return the failure policy of the live group."""
    return failure_policy(run.row["plan"], run.current_group)


def is_draining(run: LockedRun) -> bool:
    """Whether a member of the live group failed, so that the others may only end: no retry, no suspension."""
    return run.failed > 0 and policy_of(run) is not GroupFailurePolicy.WAIT_ALL


def _end_siblings(run: LockedRun, policy: GroupFailurePolicy) -> None:
    if policy is GroupFailurePolicy.WAIT_ALL or run.remaining == 0:
        return
    for sibling in run.active_stage_runs():
        if sibling.status is not StageStatus.RUNNING or policy is GroupFailurePolicy.FAIL_FAST:
            cancel_stage_run(run, sibling)


def cancel_stage_run(run: LockedRun, stage: StageRow, why: Mapping[str, Any] | None = None) -> bool:
    """Cancel a stage run: its lease, if any, is taken away; a suspended one is owed its ``on_cancel``.

    Args:
        run: Its run.
        stage: What is cancelled.
        why: What the event tells; None for the failure of another member of its group.
    """
    owed = stage.suspended_state is not None
    cleanup: dict[str, Any] = {"cleanup_due_at": run.now} if owed else {}
    if not run.move_stage(StageMove.CANCEL, stage, new_fence=True, **cleanup):
        return False
    run.close_attempt(stage.id, stage.fence, AttemptOutcome.CANCELLED)
    run.record(EventType.STAGE_CANCELLED, stage.stage_id, **(why or {"reason": "stage failed", **run.cause()}))
    if owed:
        run.dispatch(stage)
    return True


def settle(run: LockedRun, settings: Settings) -> None:
    """If the live group has ended, start the next one or end the run."""
    if run.remaining > 0 or not run.is_live:
        return
    if run.failed > 0:
        run.move(RunMove.FAIL, EventType.RUN_FAILED, run.cause())
        return
    plan = Plan.from_json(run.row["plan"])
    # A group that was skipped whole passes its own input on.
    members = run.live_stage_runs(group=run.current_group)
    has_output = any(member.status is StageStatus.COMPLETED for member in members)
    source = run.current_group if has_output else run.input_group
    following = new_group(plan, run.current_group + 1, settings)
    if following:
        run.set(input_group=source)
        run.add_group(run.current_group + 1, following)
    else:
        run.move(RunMove.COMPLETE, EventType.RUN_COMPLETED, output_group=source)
