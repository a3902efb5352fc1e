"""Execute what a hint names: take it, run the user's code outside any transaction, write what became of it."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.definition import StageContext, Suspend
from workflow_engine.engine.data.inputs import resolve_input
from workflow_engine.engine.data.user_values import config_of, identity_of, output_of, suspension_of
from workflow_engine.engine.decisions.failures import describe, let_process_end, with_limit
from workflow_engine.engine.decisions.outcomes import (
    Completed,
    Failed,
    Mismatched,
    Released,
    Retrying,
    Skipped,
    Suspended,
    decide_error,
)
from workflow_engine.engine.execution.context_effects import Effects
from workflow_engine.engine.execution.find_definition import find_definition
from workflow_engine.engine.execution.poll_stage import poll
from workflow_engine.engine.execution.record_outcome import record_outcome
from workflow_engine.engine.execution.run_on_cancel import run_cleanup
from workflow_engine.engine.process.body_loops import BodyEvictedError
from workflow_engine.engine.process.database_patience import PATIENCE_OF_OUTCOMES, patiently
from workflow_engine.engine.transitions.release import release
from workflow_engine.errors import DatabaseTimeoutError, DatabaseUnavailableError
from workflow_engine.log_context import ExecutedStage, executing
from workflow_engine.payloads.secrets import redacting
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.records import ClaimKind, ClaimRequest

if TYPE_CHECKING:
    from workflow_engine.definition import Stage, Workflow
    from workflow_engine.engine.decisions.outcomes import Outcome
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.engine.process.lease_keeper import HeldLease
    from workflow_engine.store.records import Claim, Report, StageFailure

logger = logging.getLogger("workflow_engine.engine")

IGNORED = "ignored"
DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Performed:
    """What came of a hint."""

    #: ``ignored``, ``discarded``, ``cleaned up``, or the outcome: completed, skipped, suspended, notready, retrying, …
    result: str
    #: What went wrong, on one line, redacted: ``ValueError: no such page``.
    problem: str | None = None
    run_id: str | None = None
    stage_id: str | None = None
    attempt: int | None = None


def execute_stage(engine: Engine, stage_run_id: str, dispatch_number: int) -> Performed:
    """Claim the stage run and execute or poll it; its outcome is durable when this returns.

    A hint for something that is not due, or is somebody else's, is ignored. Whatever the user's code raises,
    ``SystemExit`` and ``MemoryError`` included, becomes an outcome.

    Raises:
        DatabaseUnavailableError: The database went away, for longer than an outcome waits for it; the lease, if one was
            taken, runs out by itself.
        DatabaseTimeoutError: The database was too slow.
        SystemExit: A signal told this process to end; the stage run is taken back from it like from one that was lost.
    """
    started = engine.clock.monotonic()
    taken = claim(
        engine.database,
        ClaimRequest(
            stage_run_id=stage_run_id,
            dispatch_number=dispatch_number,
            nonce=str(uuid.uuid4()),
            worker_id=engine.worker_id,
            lease_ms=to_milliseconds(engine.settings.lease),
        ),
    )
    if taken is None:
        return Performed("cleaned up" if run_cleanup(engine, stage_run_id) else IGNORED)
    stage = ExecutedStage(taken.run_id, taken.stage_id, taken.attempt)
    with executing(stage), redacting(engine.redactor), engine.keeper.hold(taken.lease, started) as held:
        if held.lost.is_set():
            logger.warning("stage %s of run %s is not begun: its lease ran out meanwhile", taken.stage_id, taken.run_id)
            return Performed(DISCARDED, None, taken.run_id, taken.stage_id, taken.attempt)
        effects = Effects(engine, taken, held)
        outcome = _perform(engine, taken, effects, held)
        held.returned_at = engine.clock.monotonic()
        outcome, accepted = _record(engine, taken, held, outcome, _report(effects, outcome, taken))
        return _tell(outcome, taken, accepted=accepted)


def _report(effects: Effects, outcome: Outcome, taken: Claim) -> Report:
    """Return what the attempt leaves; the last line of the log of one that failed says how."""
    if isinstance(outcome, Failed | Retrying):
        what = f"attempt {taken.attempt}" if taken.kind is ClaimKind.EXECUTE else f"poll {taken.polls}"
        return effects.take_report(outcome.failure, title=f"{what} failed")
    return effects.take_report()


def _tell(outcome: Outcome, taken: Claim, *, accepted: bool) -> Performed:
    """Log what came of the claim: failures at ERROR, what is tried again or discarded at WARNING."""
    result = type(outcome).__name__.lower() if accepted else DISCARDED
    where = (taken.stage_id, taken.run_id, result, taken.attempt)
    failure: StageFailure | None = getattr(outcome, "failure", None)
    if failure is None:
        logger.info("stage %s of run %s: %s (attempt %d)", *where)
        return Performed(result, None, taken.run_id, taken.stage_id, taken.attempt)
    level = logging.ERROR if accepted and isinstance(outcome, Failed) else logging.WARNING
    message = "stage %s of run %s: %s (attempt %d): %s"
    logger.log(level, message, *where, failure.headline, exc_info=failure.exc_info)
    return Performed(result, failure.headline, taken.run_id, taken.stage_id, taken.attempt)


def _record(engine: Engine, taken: Claim, held: HeldLease, outcome: Outcome, report: Report) -> tuple[Outcome, bool]:
    """Record the outcome as soon as the database lets us: what the body did is not to be done again for its absence.

    A body that was told to stop may have stopped halfway: its stage run is given back, if it is still ours.
    """

    def record() -> tuple[Outcome, bool]:
        if held.was_told and not isinstance(outcome, Suspended):
            release(engine, taken.lease)
        return record_outcome(engine, taken, outcome, report)

    return patiently(
        engine,
        f"the outcome of stage {taken.stage_id} of run {taken.run_id}",
        record,
        longest=PATIENCE_OF_OUTCOMES,
        absences=(DatabaseUnavailableError, DatabaseTimeoutError),
    )


def _perform(engine: Engine, taken: Claim, effects: Effects, held: HeldLease) -> Outcome:
    found = find_definition(engine, taken)
    if isinstance(found, Mismatched):
        return found
    workflow, stage = found
    try:
        if taken.kind is ClaimKind.POLL:
            return poll(engine, taken, stage, workflow, effects)
        return _execute(engine, taken, stage, workflow, effects)
    except BodyEvictedError as error:
        logger.warning("stage %s of run %s is given back: %s", taken.stage_id, taken.run_id, error)
        return Released()
    except BaseException as error:  # noqa: BLE001 - MemoryError or SystemExit of a body must not end the worker
        let_process_end(error)
        if held.lost.is_set():
            logger.info("stage %s of run %s stopped after its lease was lost", taken.stage_id, taken.run_id)
        failure = with_limit(describe(error, engine.redactor), error, "timeout", stage.timeout)
        return decide_error(error, failure, stage.retry, taken, engine.random)


def _execute(
    engine: Engine, taken: Claim, stage: Stage[Any, Any], workflow: Workflow[Any, Any], effects: Effects
) -> Outcome:
    context = StageContext(
        identity=identity_of(taken),
        input=resolve_input(taken, stage, workflow),
        config=config_of(taken.config, stage),
        stages=workflow.stages,
        groups=workflow.group_numbers,
        port=effects,
    )
    call = engine.bodies.call
    if stage.skip_if is not None and call(stage.skip_if, context, is_async=False, timeout=stage.timeout):
        return Skipped()
    result = call(stage.body, context, is_async=stage.is_async, timeout=stage.timeout)
    if isinstance(result, Suspend):
        return suspension_of(engine, stage, result, effects)
    return Completed(output_of(engine, stage, result))
