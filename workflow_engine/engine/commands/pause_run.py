"""Hold new claims of a run or of a whole workflow, and let them go again. What runs goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow_engine.engine.commands.redispatch import dispatch_what_is_due, redispatch
from workflow_engine.engine.transitions.unit_of_work import with_run
from workflow_engine.errors import RunStateError
from workflow_engine.store.moves import changes
from workflow_engine.store.moves import paused_workflows as controls

if TYPE_CHECKING:
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun


def pause_run(engine: Engine, run_id: str) -> None:
    """Hold the run: nothing of it is claimed until it is resumed. Waits and deadlines go on.

    Raises:
        RunNotFoundError: There is no such run.
        RunStateError: The run has ended.
    """

    def act(run: LockedRun) -> None:
        _require_live(run, "paused")
        if run.row.paused_at is None:
            changes.pause(run)

    with_run(engine, run_id, act)


def resume_run(engine: Engine, run_id: str) -> None:
    """Let the run go on; what is due is dispatched, because its messages were dropped while it was paused.

    Raises:
        RunNotFoundError: There is no such run.
        RunStateError: The run has ended.
    """

    def act(run: LockedRun) -> None:
        _require_live(run, "resumed")
        if run.row.paused_at is not None:
            changes.resume(run)
            dispatch_what_is_due(run)

    with_run(engine, run_id, act)


def pause_workflow(engine: Engine, workflow_id: str) -> None:
    """Hold every run of the workflow, those created later included."""
    engine.database.transact(lambda tx: controls.pause(tx, workflow_id))


def resume_workflow(engine: Engine, workflow_id: str) -> int:
    """Let the workflow's runs go on, those paused one by one excepted; return how many live runs it has."""
    engine.database.transact(lambda tx: controls.resume(tx, workflow_id))
    live = engine.database.read(lambda tx: controls.live_runs(tx, workflow_id))
    for run_id in live:
        with_run(engine, run_id, redispatch)
    return len(live)


def _require_live(run: LockedRun, verb: str) -> None:
    if not run.is_live:
        raise RunStateError(f"Run {run.id} is {run.status} and cannot be {verb}")
