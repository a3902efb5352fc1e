"""Calling ``on_cancel``, at least once: the hook stops the work that a cancelled stage had started elsewhere."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.definition import CancelContext
from workflow_engine.engine.data.stage_execution import StageExecution
from workflow_engine.engine.decisions.failures import describe, let_process_end
from workflow_engine.engine.decisions.outcomes import Mismatched
from workflow_engine.engine.execution.context_services import ContextServices
from workflow_engine.engine.execution.match_definition import match_definition
from workflow_engine.engine.process.lease_keeper import HeldLease
from workflow_engine.engine.transitions.release import mismatch_delay_ms
from workflow_engine.engine.waits.registry import find_kind
from workflow_engine.payloads.secrets import redacting
from workflow_engine.store.moves.attempt_reports import write_log_lines
from workflow_engine.store.upkeep.cleanups import claim_cleanup, close_cleanup, pass_on_cleanup

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.definition import Stage, Workflow
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.records import Claim
    from workflow_engine.store.upkeep.cleanups import OwedCleanup

logger = logging.getLogger("workflow_engine.engine")

_MOST_ATTEMPTS = 5
_BACKOFF = timedelta(seconds=30)
_TIME_LIMIT = timedelta(seconds=60)


def run_cleanup(engine: Engine, stage_run_id: str) -> bool:
    """Call the stage's ``on_cancel`` if it is due; False when it is not.

    A hook that raises is called again, a handful of times, with growing waits; then it is given up and logged. A worker
    that does not know the stage leaves it to others, as it does with the stage itself; that is no try.
    """
    hold_ms = to_milliseconds(_TIME_LIMIT * 2)
    owed = engine.database.transact(lambda tx: claim_cleanup(tx, stage_run_id, hold_ms))
    if owed is None:
        return False
    matched = match_definition(engine, owed.claim)
    if isinstance(matched, Mismatched):
        _pass_on(engine, owed, matched)
        return True
    # A hook that takes its workers down never gets to say that it failed.
    delay = _clean_up(engine, owed, *matched) if owed.attempts <= _MOST_ATTEMPTS else _BACKOFF
    if delay is not None and owed.attempts >= _MOST_ATTEMPTS:
        _give_up(engine, owed.claim, f"it was tried {_MOST_ATTEMPTS} times")
        return True
    delay_ms = None if delay is None else to_milliseconds(delay)
    engine.database.transact(lambda tx: close_cleanup(tx, stage_run_id, delay_ms))
    return True


def _pass_on(engine: Engine, owed: OwedCleanup, mismatch: Mismatched) -> None:
    passed_on_for_ms = owed.passed_on_for_ms
    if passed_on_for_ms > to_milliseconds(mismatch.grace):
        _give_up(engine, owed.claim, mismatch.failure.message)
        return
    delay_ms = mismatch_delay_ms(passed_on_for_ms)
    engine.database.transact(
        lambda tx: pass_on_cleanup(tx, owed.claim.stage_run_id, delay_ms=delay_ms, passed_on_for_ms=passed_on_for_ms)
    )


def _give_up(engine: Engine, claim: Claim, reason: str) -> None:
    logger.error("on_cancel of stage %s of run %s is given up: %s", claim.stage_id, claim.run_id, reason)
    engine.database.transact(lambda tx: close_cleanup(tx, claim.stage_run_id, None))


def _clean_up(
    engine: Engine, owed: OwedCleanup, workflow: Workflow[Any, Any], stage: Stage[Any, Any]
) -> timedelta | None:
    """Call the hook; return the time after which it should be called again, None for never."""
    if stage.on_cancel is None:
        return None
    claim = replace(owed.claim, fence=owed.claim.fence + owed.attempts - 1)
    services = ContextServices(engine, claim, HeldLease(claim.lease, expires_at=0.0))
    try:
        with redacting(engine.redactor):
            _call(StageExecution(engine, claim, workflow, stage, services), stage.on_cancel, services)
    except BaseException as error:
        let_process_end(error)
        failure = describe(error, engine.redactor)
        logger.warning(
            *("on_cancel of stage %s of run %s failed: %s", claim.stage_id, claim.run_id, failure.headline),
            exc_info=failure.exc_info,
        )
        return _BACKOFF * owed.attempts
    return None


def _call(execution: StageExecution, hook: Callable[..., Any], services: ContextServices) -> None:
    engine, claim = execution.engine, execution.claim
    kind, state = find_kind(claim.suspended_on), claim.suspended_state
    context = CancelContext(
        identity=execution.identity,
        state=None if kind is None or state is None else kind.decode(execution.stage, state),
        config=execution.config,
        port=services,
    )
    try:
        engine.bodies.call(hook, context, is_async=False, timeout=_TIME_LIMIT)
    finally:
        logs = services.buffer.take().logs
        engine.database.transact(lambda tx: write_log_lines(tx, claim, logs))
