"""Callbacks: code outside of a stage tells how it ended, before its next poll would find out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflow_engine.definition import Plan
from workflow_engine.engine.data.stage_output import encode_output
from workflow_engine.engine.transitions.finish import complete_stage_run
from workflow_engine.engine.transitions.group_progress import fail_stage_run, settle
from workflow_engine.engine.transitions.unit_of_work import with_run
from workflow_engine.errors import ErrorCode, RunStateError, StageNotFoundError
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import StageStatus
from workflow_engine.payloads.secrets import redacting
from workflow_engine.store.moves.attempts import has_callback
from workflow_engine.store.reads.runs import get_workflow_id
from workflow_engine.store.records import AttemptOutcome, StageFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import StageRow

_ACTOR = "outside"


@dataclass(frozen=True, slots=True)
class StageKey:
    """Which stage run an outcome is reported for."""

    run_id: str
    stage_id: str
    #: Restricts it to one generation's stage run; None means the live one.
    stage_run_id: str | None = None


def complete_stage(engine: Engine, key: StageKey, output: object) -> bool:
    """Record the output of a suspended (or running) stage; durable when this returns True.

    A poll or body that is under way is fenced off. Returns False when the stage had an outcome already.

    Raises:
        RunNotFoundError, WorkflowNotFoundError, StageNotFoundError: As the names say.
        InvalidDataError, PayloadError: The output does not fit the stage's schema; the stage goes on waiting.
        RunStateError: The stage has not started yet, or this release does not understand the plan of the run.
    """
    workflow_id = engine.database.read(lambda tx: get_workflow_id(tx, key.run_id))
    with redacting(engine.redactor):
        payload = encode_output(engine, engine.registry.get(workflow_id).get_stage(key.stage_id), output)

    def act(run: LockedRun, row: StageRow) -> None:
        if not Plan.from_json(run.row["plan"]).is_understood:
            raise RunStateError(f"The plan of run {run.id} was written by a later release; report to a process of that")
        complete_stage_run(run, row, payload, new_fence=True)
        settle(run, engine.settings)

    return _report(engine, key, AttemptOutcome.COMPLETED, act)


def fail_stage(engine: Engine, key: StageKey, error: str) -> bool:
    """Fail a suspended (or running) stage for good; otherwise like ``complete_stage``."""
    failure = StageFailure(ErrorCode.REPORTED, "ReportedFailure", engine.redactor.text(error)[:8192])

    def act(run: LockedRun, row: StageRow) -> None:
        fail_stage_run(run, row, failure, engine.settings, new_fence=True)

    return _report(engine, key, AttemptOutcome.FAILED, act, failure)


def _report(
    engine: Engine,
    key: StageKey,
    outcome: AttemptOutcome,
    act: Callable[[LockedRun, StageRow], None],
    failure: StageFailure | None = None,
) -> bool:
    nonce = new_id()

    def report(run: LockedRun) -> bool:
        row = _find(run, key)
        if row is not None and (row.status.is_terminal or not row.is_live):
            return has_callback(run.tx, row.id, nonce)  # by this call, if the answer to its commit was lost
        if not run.is_live:
            return False
        if row is None or row.status is StageStatus.PENDING:
            raise RunStateError(
                f'Stage "{key.stage_id}" of run {run.id} has not started; there is nothing to report yet'
            )
        run.close_attempt(row.id, row.fence, AttemptOutcome.CANCELLED)
        run.record_callback(row, outcome, actor=_ACTOR, nonce=nonce, failure=failure)
        act(run, row)
        return True

    return with_run(engine, key.run_id, report)


def _find(run: LockedRun, key: StageKey) -> StageRow | None:
    """Return the stage run, or None where the run has not come to that stage yet."""
    known: list[str] = []
    if key.stage_run_id is not None:
        row = run.stage_run(key.stage_run_id)
        is_known = row is not None and row.stage_id == key.stage_id
    else:
        row = next((row for row in run.live_stage_runs() if row.stage_id == key.stage_id), None)
        groups = Plan.from_json(run.row["plan"]).groups
        known = [stage.id for group in groups for stage in group]
        is_known = row is not None or key.stage_id in known
    if not is_known:
        raise StageNotFoundError(key.stage_id, run.row["workflow_id"], known)
    return row
