"""Calling the user's code for a claim, outside any transaction, and deciding the outcome. Nothing is written here."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from workflow_engine.definition import StageContext, Suspend
from workflow_engine.engine.data.stage_execution import StageExecution
from workflow_engine.engine.data.stage_input import read_input
from workflow_engine.engine.decisions.failures import describe, let_process_end, with_limit
from workflow_engine.engine.decisions.outcomes import (
    Completed,
    Mismatched,
    Released,
    Skipped,
    decide_error,
    decide_poll_error,
    decide_suspension,
)
from workflow_engine.engine.execution.match_definition import match_definition
from workflow_engine.engine.process.body_loops import BodyEvictedError
from workflow_engine.engine.waits.registry import get_kind
from workflow_engine.payloads.text import encode_json
from workflow_engine.store.records import ClaimKind

if TYPE_CHECKING:
    from workflow_engine.definition import ContextPort
    from workflow_engine.engine.decisions.outcomes import Failed, NotReady, Outcome, Retrying, Suspended
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.engine.process.lease_keeper import HeldLease
    from workflow_engine.store.records import Claim

logger = logging.getLogger("workflow_engine.engine")


def perform(engine: Engine, claim: Claim, port: ContextPort, held: HeldLease) -> Outcome:
    """Execute the claimed stage run, or ask whether its wait is over. An error of the user's code is an outcome."""
    matched = match_definition(engine, claim)
    if isinstance(matched, Mismatched):
        return matched
    execution = StageExecution(engine, claim, *matched, port)
    try:
        return _ask(execution) if claim.kind is ClaimKind.POLL else _execute(execution)
    except BodyEvictedError as error:
        logger.warning("%s is given back: %s", execution.name, error)
        return Released()
    except BaseException as error:  # noqa: BLE001 - MemoryError or SystemExit of a body must not end the worker
        let_process_end(error)
        if held.lost.is_set():
            logger.info("%s stopped after its lease was lost", execution.name)
        return _decide_raised(execution, error)


def _execute(execution: StageExecution) -> Completed | Skipped | Suspended:
    stage, call = execution.stage, execution.engine.bodies.call
    context = StageContext(
        identity=execution.identity,
        input=read_input(execution),
        config=execution.config,
        stages=execution.workflow.stages,
        groups=execution.workflow.group_numbers,
        port=execution.port,
    )
    if stage.skip_if is not None and call(stage.skip_if, context, is_async=False, timeout=stage.timeout):
        return Skipped()
    result = call(stage.body, context, is_async=stage.is_async, timeout=stage.timeout)
    return _suspend(execution, result) if isinstance(result, Suspend) else Completed(execution.encode_output(result))


def _suspend(execution: StageExecution, suspend: Suspend[Any]) -> Suspended:
    engine, stage = execution.engine, execution.stage
    state = get_kind(suspend.wait.kind).encode(engine, stage, suspend.wait)
    metadata = None
    if suspend.metadata is not None:
        metadata = encode_json(engine.redactor.value(dict(suspend.metadata)), what="suspension metadata")
    if suspend.metrics:
        execution.port.report(Decimal(0), 0, suspend.metrics)
    return decide_suspension(suspend, state, metadata, stage, engine.settings)


def _ask(execution: StageExecution) -> Completed | NotReady | Failed:
    return get_kind(execution.claim.suspended_on).ask(execution)


def _decide_raised(execution: StageExecution, error: BaseException) -> Retrying | NotReady | Failed:
    engine, claim, stage = execution.engine, execution.claim, execution.stage
    failure = describe(error, engine.redactor)
    if claim.kind is ClaimKind.POLL:
        failure = with_limit(failure, error, "poll_timeout", stage.poll_timeout)
        return decide_poll_error(error, failure, stage, claim, engine.settings, random=engine.random)
    failure = with_limit(failure, error, "timeout", stage.timeout)
    return decide_error(error, failure, stage.retry, claim, engine.random)
