"""Cancel: the run and everything of it that has not ended, in one transaction; then its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow_engine.engine.transitions.unit_of_work import with_run
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.moves import run_moves, stage_moves
from workflow_engine.store.records import LONGEST_TOLD
from workflow_engine.store.upkeep.overdue import orphaned_children

if TYPE_CHECKING:
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Hint


def cancel_run(engine: Engine, run_id: str, *, reason: str | None = None, terminate: bool = False) -> RunStatus:
    """Cancel a run; return its status afterwards, which is not CANCELLED if it had ended otherwise before.

    From then on no result of it is recorded; bodies that run see ``ctx.cancelled`` and may go on for nobody. Live
    child runs are cancelled too; if that is interrupted the sweep goes on with it. ``terminate`` also asks the
    dispatcher to end the processes that execute bodies and polls of the run: best effort, after the commit.

    Raises:
        RunNotFoundError: There is no such run.
    """
    status, executing = _cancel(engine, run_id, reason)
    if terminate and executing:
        engine.dispatcher.terminate(executing)
    if status is RunStatus.CANCELLED:
        cancel_orphans(engine)
    return status


def cancel_orphans(engine: Engine) -> int:
    """Cancel live runs whose parent was cancelled, down to the last generation; return how many."""
    cancelled = 0
    while found := engine.database.read(lambda tx: orphaned_children(tx, engine.settings.sweep_batch)):
        for run_id in found:
            _cancel(engine, run_id, "its parent run was cancelled")
        cancelled += len(found)
    return cancelled


def _cancel(engine: Engine, run_id: str, reason: str | None) -> tuple[RunStatus, list[Hint]]:
    """Cancel one run; return its status and the messages that led to what was being executed."""
    executing: list[Hint] = []  # kept when the call is made again because its answer was lost
    told = engine.redactor.text(reason)[:LONGEST_TOLD] if reason else None

    def act(run: LockedRun) -> tuple[RunStatus, list[Hint]]:
        active = run.active_stage_runs() if run.is_live else []
        why = {"reason": "run cancelled", **({"message": told} if told else {})}
        for stage in active:
            stage_moves.cancel(run, stage, why)
        if run.is_live:
            run_moves.cancel(run, told)
        executing.extend(run.hint_of(stage) for stage in active if stage.lease_id is not None)
        return run.status, executing

    return with_run(engine, run_id, act)
