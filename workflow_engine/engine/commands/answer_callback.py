"""Callbacks: code outside of a stage tells how it ended, before its next poll would find out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflow_engine.definition import Plan
from workflow_engine.engine.data.stage_output import encode_output
from workflow_engine.engine.decisions.failures import LONGEST_MESSAGE
from workflow_engine.engine.transitions.group_progress import fail_stage_run, settle
from workflow_engine.engine.transitions.unit_of_work import with_run
from workflow_engine.errors import ErrorCode, RunStateError, StageNotFoundError
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import StageStatus
from workflow_engine.payloads.secrets import redacting
from workflow_engine.store.moves import stage_moves
from workflow_engine.store.moves.attempts import Callback, has_callback
from workflow_engine.store.reads.runs import get_workflow_id
from workflow_engine.store.records import StageFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import StageRow


@dataclass(frozen=True, slots=True)
class StageKey:
    """Which stage run a callback is about."""

    run_id: str
    stage_id: str
    #: The stage run that a token names; None means the live stage run of the stage.
    stage_run_id: str | None = None


def complete_stage(engine: Engine, key: StageKey, output: object) -> bool:
    """Complete a suspended or running stage with an output; durable when this returns True.

    A poll or body that is under way is fenced off. Returns False when the stage had an outcome already.

    Raises:
        RunNotFoundError, WorkflowNotFoundError, StageNotFoundError: As the names say.
        InvalidDataError, PayloadError: The output does not fit the stage's schema; the stage goes on waiting.
        RunStateError: The stage has not started yet, or waits for its next attempt; or this release does not understand
            the plan of the run.
    """
    workflow_id = engine.database.read(lambda tx: get_workflow_id(tx, key.run_id))
    with redacting(engine.redactor):
        payload = encode_output(engine, engine.registry.get(workflow_id).get_stage(key.stage_id), output)

    def act(run: LockedRun, row: StageRow, callback: Callback) -> None:
        if not Plan.from_json(run.row.plan).is_understood:
            raise RunStateError(
                f"The plan of run {run.id} was written by a later release; call a process of that release"
            )
        stage_moves.complete(run, row, payload, callback)
        settle(run, engine.settings)

    return _answer(engine, key, act)


def fail_stage(engine: Engine, key: StageKey, error: str) -> bool:
    """Fail a suspended or running stage for good; otherwise like ``complete_stage``."""
    failure = StageFailure(ErrorCode.REPORTED, "ReportedFailure", engine.redactor.text(error)[:LONGEST_MESSAGE])

    def act(run: LockedRun, row: StageRow, callback: Callback) -> None:
        fail_stage_run(run, row, failure, engine.settings, by=callback)

    return _answer(engine, key, act)


def _answer(engine: Engine, key: StageKey, act: Callable[[LockedRun, StageRow, Callback], None]) -> bool:
    callback = Callback(new_id())

    def answer(run: LockedRun) -> bool:
        row = _find(run, key)
        if row is not None and (row.status.is_terminal or not row.is_live):
            return has_callback(run.tx, row.id, callback.nonce)  # by this call, if the answer to its commit was lost
        if not run.is_live:
            return False
        if row is None or row.status is StageStatus.PENDING:
            is_between = row is not None and row.fence > 0
            problem = "waits for its next attempt" if is_between else "has not started"
            raise RunStateError(
                f'Stage "{key.stage_id}" of run {run.id} {problem}; '
                "it can be completed or failed while it runs or is suspended"
            )
        act(run, row, callback)
        return True

    return with_run(engine, key.run_id, answer)


def _find(run: LockedRun, key: StageKey) -> StageRow | None:
    """Return the stage run, or None where the run has not come to that stage yet."""
    known: list[str] = []
    if key.stage_run_id is not None:
        row = run.stage_run(key.stage_run_id)
        is_known = row is not None and row.stage_id == key.stage_id
    else:
        row = next((row for row in run.live_stage_runs() if row.stage_id == key.stage_id), None)
        groups = Plan.from_json(run.row.plan).groups
        known = [stage.id for group in groups for stage in group]
        is_known = row is not None or key.stage_id in known
    if not is_known:
        raise StageNotFoundError(key.stage_id, run.row.workflow_id, known)
    return row
