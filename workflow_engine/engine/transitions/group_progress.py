"""What follows when a stage run ends: siblings, the next group, the end of the run. Inside the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow_engine.definition import GroupFailurePolicy, Plan
from workflow_engine.definition.workflows.plan import failure_policy
from workflow_engine.engine.transitions.new_stage_runs import new_group
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.moves import run_moves, stage_moves
from workflow_engine.store.moves.new_rows import add_group

if TYPE_CHECKING:
    from workflow_engine.settings import Settings
    from workflow_engine.store.moves.attempts import Callback
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Report, StageFailure, StageRow


def fail_stage_run(
    run: LockedRun,
    stage: StageRow,
    failure: StageFailure,
    settings: Settings,
    *,
    by: Report | Callback | None,
    owes_cleanup: bool = False,
) -> None:
    """Fail a stage run for good, and let its group's failure policy follow."""
    stage_moves.fail(run, stage, failure, by, owes_cleanup=owes_cleanup)
    _end_siblings(run, policy_of(run))
    settle(run, settings)


def policy_of(run: LockedRun) -> GroupFailurePolicy:
    """Return the failure policy of the live group."""
    return failure_policy(run.row.plan, run.row.current_group)


def is_draining(run: LockedRun) -> bool:
    """Whether a member of the live group failed, so that the others may only end: no retry, no suspension."""
    return run.failed > 0 and policy_of(run) is not GroupFailurePolicy.WAIT_ALL


def _end_siblings(run: LockedRun, policy: GroupFailurePolicy) -> None:
    if policy is GroupFailurePolicy.WAIT_ALL or run.row.remaining == 0:
        return
    for sibling in run.active_stage_runs():
        if sibling.status is not StageStatus.RUNNING or policy is GroupFailurePolicy.FAIL_FAST:
            stage_moves.cancel(run, sibling)


def settle(run: LockedRun, settings: Settings) -> None:
    """If the live group has ended, start the next one or end the run."""
    if run.row.remaining > 0 or not run.is_live:
        return
    if run.failed > 0:
        run_moves.fail(run)
        return
    # A group that was skipped whole passes its own input on.
    members = run.live_stage_runs(group=run.row.current_group)
    has_output = any(member.status is StageStatus.COMPLETED for member in members)
    source = run.row.current_group if has_output else run.row.input_group
    following = new_group(Plan.from_json(run.row.plan), run.row.current_group + 1, settings)
    if following:
        add_group(run, run.row.current_group + 1, following, input_group=source)
    else:
        run_moves.complete(run, output_group=source)
