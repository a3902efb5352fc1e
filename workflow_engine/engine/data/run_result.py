"""The result of a run. Its output is composed like the input of one more group after its last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.engine.data.stage_input import group_text
from workflow_engine.lifecycle import RunStatus
from workflow_engine.payloads.text import decode_json
from workflow_engine.store.moves.claims import read_outputs
from workflow_engine.store.reads.runs import find_ended_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow_engine.store.moves.locked_run import Transaction
    from workflow_engine.store.reads.runs import EndedRun


@dataclass(frozen=True, slots=True)
class RunResult:
    """The status of a run, with the JSON text of its output or its error if it has ended."""

    run_id: str
    status: RunStatus
    text: str | None
    error: str | None

    def output(self) -> Any:
        """Return the output as plain JSON; None unless the run is COMPLETED."""
        return None if self.text is None else decode_json(self.text)


def read_run_result(tx: Transaction, run_id: str) -> RunResult | None:
    """Return the result of the run, or None when there is no such run."""
    run = find_ended_run(tx, run_id)
    if run is None:
        return None
    text = _output_text(tx, run_id, run) if run.status is RunStatus.COMPLETED else None
    return RunResult(run_id, run.status, text, run.error_message)


def read_run_results(tx: Transaction, run_ids: Sequence[str]) -> dict[str, RunResult]:
    """Return the results of the runs, keyed by id; unknown ids are absent."""
    found = (read_run_result(tx, run_id) for run_id in run_ids)
    return {result.run_id: result for result in found if result is not None}


def _output_text(tx: Transaction, run_id: str, run: EndedRun) -> str:
    """Return the output of the last group that was not skipped whole; the run's input if all were."""
    if not run.output_group:
        return run.input
    outputs = read_outputs(tx, run_id, group=run.output_group)
    return group_text(run.plan, run.output_group, outputs, needed_by="the run's output")
