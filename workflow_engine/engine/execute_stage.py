"""Execute what a hint names: take it, run the user's code outside any transaction, write what became of it."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.definition import StageContext, Suspend
from workflow_engine.engine.body_loops import BodyEvictedError
from workflow_engine.engine.calls import config_of, identity_of, output_of, suspension_of
from workflow_engine.engine.cleanup import run_cleanup
from workflow_engine.engine.effects import Effects
from workflow_engine.engine.failures import describe
from workflow_engine.engine.finish import finish
from workflow_engine.engine.inputs import resolve_input
from workflow_engine.engine.outcomes import (
    Completed,
    Failed,
    Mismatched,
    Released,
    Skipped,
    decide_error,
)
from workflow_engine.engine.poll_stage import poll
from workflow_engine.errors import DatabaseUnavailableError, DefinitionError, ErrorCode
from workflow_engine.log_context import ExecutedStage, executing
from workflow_engine.store.claims import claim
from workflow_engine.store.records import ClaimKind, ClaimRequest, Report

if TYPE_CHECKING:
    from workflow_engine.definition import Stage, Workflow
    from workflow_engine.engine.core import Engine
    from workflow_engine.engine.leases import HeldLease
    from workflow_engine.engine.outcomes import Outcome
    from workflow_engine.store.records import Claim

logger = logging.getLogger("workflow_engine.engine")

IGNORED = "ignored"
DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Performed:
    """What came of a hint."""

    #: ``ignored``, ``discarded``, ``cleaned up``, or the outcome: completed, skipped, suspended, notready, retrying, …
    result: str
    run_id: str | None = None
    stage_id: str | None = None
    attempt: int | None = None


def execute_stage(engine: Engine, stage_run_id: str, dispatch_number: int) -> Performed:
    """Claim the stage run and execute or poll it; its outcome is durable when this returns.

    A hint for something that is not due, or is somebody else's, is ignored. Whatever the user's code raises,
    ``SystemExit`` and ``MemoryError`` included, becomes an outcome.

    Raises:
        DatabaseUnavailableError: The database went away; the lease, if one was taken, runs out by itself.
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
    with executing(stage), engine.keeper.hold(taken.lease, started) as held:
        effects = Effects(engine, taken, held)
        outcome = _perform(engine, taken, effects, held)
        try:
            accepted = finish(engine, taken, outcome, effects.take_report())
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            # Left alone, the lease would run out and the same would happen again until WORKER_LOST hides the cause.
            logger.exception("the outcome of stage %s of run %s cannot be recorded", taken.stage_id, taken.run_id)
            outcome = Failed(describe(error, engine.redactor))
            accepted = finish(engine, taken, outcome, Report())
    result = type(outcome).__name__.lower() if accepted else DISCARDED
    logger.info("stage %s of run %s: %s (attempt %d)", taken.stage_id, taken.run_id, result, taken.attempt)
    return Performed(result, taken.run_id, taken.stage_id, taken.attempt)


def _perform(engine: Engine, taken: Claim, effects: Effects, held: HeldLease) -> Outcome:
    try:
        workflow = engine.registry.find(taken.workflow_id)
    except Exception as error:  # noqa: BLE001 - a registry of the user's
        return Mismatched(describe(error, engine.redactor, ErrorCode.DEFINITION_MISMATCH))
    stage = workflow.find_stage(taken.stage_id) if workflow else None
    if workflow is None or stage is None:
        return _mismatch(engine, taken, workflow)
    try:
        if taken.kind is ClaimKind.POLL:
            return poll(engine, taken, stage, workflow, effects)
        return _execute(engine, taken, stage, workflow, effects)
    except BodyEvictedError as error:
        logger.warning("stage %s of run %s is given back: %s", taken.stage_id, taken.run_id, error)
        return Released()
    except BaseException as error:  # noqa: BLE001 - MemoryError or SystemExit of a body must not end the worker
        if held.lost.is_set():
            logger.info("stage %s of run %s stopped after its lease was lost: %r", taken.stage_id, taken.run_id, error)
        return decide_error(error, describe(error, engine.redactor), stage.retry, taken, engine.random)


def _execute(
    engine: Engine, taken: Claim, stage: Stage[Any, Any], workflow: Workflow[Any, Any], effects: Effects
) -> Outcome:
    context = StageContext(
        identity=identity_of(taken),
        input=resolve_input(taken, stage, workflow),
        config=config_of(taken.config, stage),
        stages=workflow.stages,
        port=effects,
    )
    call = engine.bodies.call
    if stage.skip_if is not None and call(stage.skip_if, context, is_async=False, timeout=stage.timeout):
        return Skipped()
    result = call(stage.body, context, is_async=stage.is_async, timeout=stage.timeout)
    if isinstance(result, Suspend):
        return suspension_of(engine, stage, result, effects)
    return Completed(output_of(engine, stage, result))


def _mismatch(engine: Engine, taken: Claim, workflow: Workflow[Any, Any] | None) -> Mismatched:
    """Say what the run needs and what this worker has."""
    if workflow is None:
        known = ", ".join(sorted(engine.registry.ids())) or "none"
        problem = f'workflow "{taken.workflow_id}" is not registered on worker {engine.worker_id} (registered: {known})'
    else:
        problem = (
            f'stage "{taken.stage_id}" is in the plan of the run but not in workflow "{taken.workflow_id}" '
            f"on worker {engine.worker_id} (stages: {', '.join(workflow.stages)})"
        )
    return Mismatched(describe(DefinitionError(problem), engine.redactor, ErrorCode.DEFINITION_MISMATCH))
