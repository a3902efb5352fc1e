"""The input of a stage: read in one way by first executions, retries, reruns and the in-process executor.

Group 1 gets the run's input; group n gets the output of group n-1, or of the nearest group before it that was not
skipped whole. Every member of a group gets the same value. A missing output is an error, never the run's input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.definition import GroupOutput, Plan
from workflow_engine.errors import StageOutputMissing
from workflow_engine.lifecycle import StageStatus
from workflow_engine.payloads.text import compose_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.definition import StoredOutput
    from workflow_engine.engine.data.stage_execution import StageExecution


def read_input(execution: StageExecution) -> Any:
    """Return the parsed input of the claimed stage run.

    Raises:
        StageOutputMissing: A predecessor has no output.
        InvalidDataError: The predecessor's output does not fit the input's schema.
    """
    claim, stage = execution.claim, execution.stage
    what = f'input of stage "{stage.id}"'
    if not stage.takes_input:
        return stage.input.parse({}, what=what)
    if stage.takes_group:
        return _read_group(execution)
    if claim.input_group == 0:
        if claim.run_input is None:
            raise StageOutputMissing(f'Stage "{stage.id}" needs the input of run {claim.run_id}, which is not recorded')
        return stage.input.decode(claim.run_input, what=what)
    return stage.input.decode(group_text(claim.plan, claim.input_group, claim.outputs, needed_by=stage.id), what=what)


def group_text(plan: str, number: int, outputs: Mapping[str, StoredOutput], *, needed_by: str) -> str:
    """Return the JSON text of a group's value: the output of its only stage, or its members' outputs by stage.

    Raises:
        StageOutputMissing: A member is neither completed nor skipped.
    """
    members = _members_of_group(plan, number)
    texts = _completed_texts(members, outputs, needed_by=needed_by)
    return texts[members[0]] if len(members) == 1 else compose_object(texts)


def _read_group(execution: StageExecution) -> GroupOutput:
    """Return the outputs of the group before; none if that group was skipped whole."""
    claim, stages = execution.claim, execution.workflow.stages
    members = _members_of_group(claim.plan, claim.execution_group - 1)
    known = {stage_id: stages[stage_id] for stage_id in members if stage_id in stages}
    is_skipped = claim.input_group != claim.execution_group - 1
    return GroupOutput({} if is_skipped else _completed_texts(members, claim.outputs, needed_by=claim.stage_id), known)


def _members_of_group(plan: str, number: int) -> list[str]:
    return [member.id for member in Plan.from_json(plan).groups[number - 1]]


def _completed_texts(stage_ids: list[str], outputs: Mapping[str, StoredOutput], *, needed_by: str) -> dict[str, str]:
    """Return the output texts of a group's members in their order; skipped members are absent.

    Raises:
        StageOutputMissing: A member is neither completed nor skipped.
    """
    texts: dict[str, str] = {}
    for stage_id in stage_ids:
        output = outputs.get(stage_id)
        if output is None or (output.payload is None and output.status is not StageStatus.SKIPPED):
            raise StageOutputMissing(
                f'Stage "{needed_by}" needs the output of stage "{stage_id}", which does not exist'
            )
        if output.payload is not None:
            texts[stage_id] = output.payload
    return texts
