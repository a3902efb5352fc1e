"""Waiting for the end of other runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from workflow_engine.definition.waits import Runs
from workflow_engine.engine.data.run_result import read_run_results
from workflow_engine.engine.decisions.failures import describe
from workflow_engine.engine.decisions.outcomes import Completed, Failed, NotReady, decide_pending
from workflow_engine.engine.process.database_patience import PATIENCE_OF_BODIES, patiently
from workflow_engine.engine.waits.wait_kind import WaitKind
from workflow_engine.errors import StageError
from workflow_engine.lifecycle import RunStatus
from workflow_engine.payloads.text import decode_json, encode_json
from workflow_engine.store.reads.runs import list_run_states

if TYPE_CHECKING:
    from workflow_engine.definition import Stage
    from workflow_engine.engine.data.stage_execution import StageExecution
    from workflow_engine.engine.process.engine import Engine


class RunsKind(WaitKind[Runs]):
    """The outputs of the runs, keyed by run id, are the output once all have COMPLETED. A bad end fails the stage."""

    wait = Runs

    @override
    def encode(self, engine: Engine, stage: Stage[Any, Any], wait: Runs) -> str:
        return encode_json(list(wait.run_ids), what=f'runs that stage "{stage.id}" waits for')

    @override
    def ask(self, execution: StageExecution) -> Completed | NotReady | Failed:
        engine, claim = execution.engine, execution.claim
        run_ids = decode_json(claim.suspended_state or "[]")
        read = partial(patiently, engine, execution.name, longest=PATIENCE_OF_BODIES)
        states = read(lambda: engine.database.read(lambda tx: list_run_states(tx, run_ids)))
        for run_id in run_ids:
            state = states.get(run_id)
            if state is None or state.status in (RunStatus.FAILED, RunStatus.CANCELLED):
                problem = f"is {state.status}: {state.error_message}" if state else "does not exist"
                return Failed(describe(StageError(f"Run {run_id} that the stage waits for {problem}"), engine.redactor))
        if any(states[run_id].status is not RunStatus.COMPLETED for run_id in run_ids):
            return decide_pending(None, None, execution.stage, claim, engine.settings)
        # Only now: the end of each run wakes the stage, and reading all outputs each time would be quadratic.
        results = read(lambda: engine.database.read(lambda tx: read_run_results(tx, run_ids)))
        return Completed(execution.encode_output({run_id: results[run_id].output() for run_id in run_ids}))
