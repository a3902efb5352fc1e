"""Ask whether what a suspended stage waits for is there: the stage's own poll, or the end of other runs."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import ms_to_instant
from workflow_engine.definition import Pending, PollContext, Suspend
from workflow_engine.engine.data.run_output import read_run_results
from workflow_engine.engine.data.user_values import config_of, identity_of, output_of, state_of
from workflow_engine.engine.decisions.failures import describe, let_process_end, with_limit
from workflow_engine.engine.decisions.outcomes import Completed, Failed, decide_pending, decide_poll_error
from workflow_engine.engine.process.body_loops import BodyEvictedError
from workflow_engine.engine.process.database_patience import PATIENCE_OF_BODIES, patiently
from workflow_engine.errors import DefinitionError, StageError
from workflow_engine.lifecycle import RunStatus
from workflow_engine.payloads.text import decode_json
from workflow_engine.store.reads.runs import read_run_states

if TYPE_CHECKING:
    from workflow_engine.definition import ContextPort, Stage, Workflow
    from workflow_engine.engine.decisions.outcomes import Outcome
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.records import Claim


def poll(
    engine: Engine, claim: Claim, stage: Stage[Any, Any], workflow: Workflow[Any, Any], port: ContextPort
) -> Outcome:
    """Return what the poll found out: an output, not ready, or a failure."""
    try:
        if claim.suspended_on == "runs":
            return _poll_runs(engine, claim, stage)
        return _answer(engine, claim, stage, _ask(engine, claim, stage, workflow, port), port)
    except BodyEvictedError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the user's poll raises becomes an outcome
        let_process_end(error)
        failure = with_limit(describe(error, engine.redactor), error, "poll_timeout", stage.poll_timeout)
        return decide_poll_error(error, failure, stage, claim, engine.settings, random=engine.random)


def _ask(engine: Engine, claim: Claim, stage: Stage[Any, Any], workflow: Workflow[Any, Any], port: ContextPort) -> Any:
    if stage.poll is None or stage.state is None:
        raise StageError(f'Stage "{stage.id}" is suspended but its definition has no poll')
    what = f'suspended state of stage "{stage.id}"'
    context = PollContext(
        identity=identity_of(claim),
        state=stage.state.decode(claim.suspended_state or "null", what=what),
        config=config_of(claim.config, stage),
        suspended_at=ms_to_instant(claim.suspended_at or claim.claimed_at),
        polls=claim.polls - 1,
        stages=workflow.stages,
        groups=workflow.group_numbers,
        port=port,
    )
    return engine.bodies.call(stage.poll, context, is_async=stage.poll_is_async, timeout=stage.poll_timeout)


def _answer(engine: Engine, claim: Claim, stage: Stage[Any, Any], answer: Any, port: ContextPort) -> Outcome:
    if not isinstance(answer, Pending):
        if isinstance(answer, Suspend):
            raise DefinitionError(f'The poll of stage "{stage.id}" returned Suspend; it returns the output or Pending')
        return Completed(output_of(engine, stage, answer))
    if answer.metrics:
        port.report(Decimal(0), 0, answer.metrics)
    if answer.progress is not None:
        port.report_progress(answer.progress, answer.message, {})
    state = None if answer.state is None else state_of(engine, stage, answer.state)
    return decide_pending(answer.next_poll_in, state, stage, claim, engine.settings)


def _poll_runs(engine: Engine, claim: Claim, stage: Stage[Any, Any]) -> Outcome:
    """Complete with the outputs of the runs, keyed by run id, once all have ended well."""
    run_ids = decode_json(claim.suspended_state or "[]")
    what = f"stage {claim.stage_id} of run {claim.run_id}"
    read = partial(patiently, engine, what, longest=PATIENCE_OF_BODIES)
    states = read(lambda: engine.database.read(lambda tx: read_run_states(tx, run_ids)))
    for run_id in run_ids:
        state = states.get(run_id)
        if state is None or state.status in (RunStatus.FAILED, RunStatus.CANCELLED):
            problem = f"is {state.status}: {state.error_message}" if state else "does not exist"
            return Failed(describe(StageError(f"Run {run_id} that the stage waits for {problem}"), engine.redactor))
    if any(states[run_id].status is not RunStatus.COMPLETED for run_id in run_ids):
        return decide_pending(None, None, stage, claim, engine.settings)
    # Only now: each end wakes this poll, and reading the outputs every time would grow with the square of their number.
    results = read(lambda: engine.database.read(lambda tx: read_run_results(tx, run_ids)))
    return Completed(output_of(engine, stage, {run_id: results[run_id].output() for run_id in run_ids}))
