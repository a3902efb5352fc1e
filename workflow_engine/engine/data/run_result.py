"""The result of a run. Its output is composed like the input of one more group after its last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.definition import Plan
from workflow_engine.engine.data.stage_input import completed_texts
from workflow_engine.lifecycle import RunStatus
from workflow_engine.payloads.text import compose_object, decode_json
from workflow_engine.store.moves.claims import read_outputs
from workflow_engine.store.reads.runs import find_ended_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow_engine.store.moves.locked_run import Transaction


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
    text = None
    if run.status is RunStatus.COMPLETED:
        text = run.input if run.output_group == 0 else _group_text(tx, run_id, run.plan, run.output_group or 0)
    return RunResult(run_id, run.status, text, run.error_message)


def read_run_results(tx: Transaction, run_ids: Sequence[str]) -> dict[str, RunResult]:
    """Return the results of the runs, keyed by id; unknown ids are absent."""
    found = (read_run_result(tx, run_id) for run_id in run_ids)
    return {result.run_id: result for result in found if result is not None}


def _group_text(tx: Transaction, run_id: str, plan: str, number: int) -> str:
    members = [member.id for member in Plan.from_json(plan).groups[number - 1]]
    texts = completed_texts(members, read_outputs(tx, run_id, group=number), needed_by="the run's output")
    return texts[members[0]] if len(members) == 1 else compose_object(texts)
