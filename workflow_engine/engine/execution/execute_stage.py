"""Execute the stage run that a hint names: claim it, call the user's code, record the outcome."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.decisions.outcomes import Failed, Retrying, Suspended
from workflow_engine.engine.execution.context_services import ContextServices
from workflow_engine.engine.execution.perform import perform
from workflow_engine.engine.execution.record_outcome import record_outcome
from workflow_engine.engine.execution.run_on_cancel import run_cleanup
from workflow_engine.engine.process.database_patience import ABSENCES, PATIENCE_OF_OUTCOMES, patiently
from workflow_engine.engine.transitions.release import release
from workflow_engine.log_context import ExecutedStage, executing
from workflow_engine.payloads.secrets import redacting
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.records import ClaimKind, ClaimRequest

if TYPE_CHECKING:
    from workflow_engine.engine.decisions.outcomes import Outcome
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.engine.process.lease_keeper import HeldLease
    from workflow_engine.store.records import Claim, Report, StageFailure

logger = logging.getLogger("workflow_engine.engine")

IGNORED = "ignored"
CLEANED_UP = "cleaned up"
DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Performed:
    """The result of a hint."""

    #: ``ignored``, ``discarded``, ``cleaned up``, or the outcome: completed, skipped, suspended, notready, retrying, …
    result: str
    #: The failure, on one line, redacted: ``ValueError: no such page``.
    problem: str | None = None


def execute_stage(engine: Engine, stage_run_id: str, dispatch_number: int) -> Performed:
    """Claim the stage run and execute or poll it; its outcome is durable when this returns.

    A hint for a stage run that is not due, or that another worker holds, is ignored. Whatever the user's code raises,
    ``SystemExit`` and ``MemoryError`` included, becomes an outcome.

    Raises:
        DatabaseUnavailableError: The database went away for longer than an outcome waits for it; the lease, if one was
            taken, runs out by itself.
        DatabaseTimeoutError: The database was too slow.
        SystemExit: A signal told this process to end; the stage run is taken back from it as from a lost worker.
    """
    asked_at = engine.clock.monotonic()
    taken = _claim(engine, stage_run_id, dispatch_number)
    if taken is None:
        return Performed(CLEANED_UP if run_cleanup(engine, stage_run_id) else IGNORED)
    stage = ExecutedStage(taken.run_id, taken.stage_id, taken.attempt)
    with executing(stage), redacting(engine.redactor), engine.keeper.hold(taken.lease, asked_at) as held:
        if held.lost.is_set():
            logger.warning("stage %s of run %s is not begun: its lease ran out meanwhile", taken.stage_id, taken.run_id)
            return Performed(DISCARDED)
        services = ContextServices(engine, taken, held)
        outcome = perform(engine, taken, services, held)
        held.returned_at = engine.clock.monotonic()
        report = _take_report(services, taken, outcome)
        outcome, accepted = _record(engine, taken, held, outcome, report)
        return _tell(taken, outcome, accepted=accepted)


def _claim(engine: Engine, stage_run_id: str, dispatch_number: int) -> Claim | None:
    request = ClaimRequest(
        stage_run_id=stage_run_id,
        dispatch_number=dispatch_number,
        nonce=str(uuid.uuid4()),
        worker_id=engine.worker_id,
        lease_ms=to_milliseconds(engine.settings.lease),
    )
    return claim(engine.database, request)


def _take_report(services: ContextServices, taken: Claim, outcome: Outcome) -> Report:
    """Return the attempt's report; the log of an attempt that failed ends with a line that says how."""
    if isinstance(outcome, Failed | Retrying):
        what = f"attempt {taken.attempt}" if taken.kind is ClaimKind.EXECUTE else f"poll {taken.polls}"
        return services.buffer.take(outcome.failure, title=f"{what} failed")
    return services.buffer.take()


def _record(engine: Engine, taken: Claim, held: HeldLease, outcome: Outcome, report: Report) -> tuple[Outcome, bool]:
    """Record the outcome as soon as the database answers, because its absence must not have the body executed again.

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
        absences=ABSENCES,
    )


def _tell(taken: Claim, outcome: Outcome, *, accepted: bool) -> Performed:
    """Log the result of the claim: failures at ERROR, attempts that are retried or discarded at WARNING."""
    result = type(outcome).__name__.lower() if accepted else DISCARDED
    where = (taken.stage_id, taken.run_id, result, taken.attempt)
    failure: StageFailure | None = getattr(outcome, "failure", None)
    if failure is None:
        logger.info("stage %s of run %s: %s (attempt %d)", *where)
        return Performed(result)
    level = logging.ERROR if accepted and isinstance(outcome, Failed) else logging.WARNING
    message = "stage %s of run %s: %s (attempt %d): %s"
    logger.log(level, message, *where, failure.headline, exc_info=failure.exc_info)
    return Performed(result, failure.headline)
