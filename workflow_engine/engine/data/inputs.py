"""Where a stage's input comes from: one resolver for first execution, retry, rerun and the in-process executor.

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

    from workflow_engine.definition import Stage, StoredOutput, Workflow
    from workflow_engine.store.records import Claim


def resolve_input(claim: Claim, stage: Stage[Any, Any], workflow: Workflow[Any, Any]) -> Any:
    """Return the parsed input of the claimed stage run.

    Raises:
        StageOutputMissing: A predecessor has no output.
        InvalidDataError: The predecessor's output does not fit the input's schema.
    """
    what = f'input of stage "{stage.id}"'
    if not stage.takes_input:
        return stage.input.parse({}, what=what)
    groups = Plan.from_json(claim.plan).groups
    if stage.takes_group:
        members = [member.id for member in groups[claim.execution_group - 2]]
        known = {stage_id: workflow.stages[stage_id] for stage_id in members if stage_id in workflow.stages}
        # A group that was skipped whole is an empty one to who takes a group; to others it passes its own input on.
        is_skipped = claim.input_group != claim.execution_group - 1
        return GroupOutput({} if is_skipped else completed_texts(members, claim.outputs, needed_by=stage.id), known)
    if claim.input_group == 0:
        if claim.run_input is None:
            raise StageOutputMissing(f'Stage "{stage.id}" needs the input of run {claim.run_id}, which is not recorded')
        return stage.input.decode(claim.run_input, what=what)
    members = [member.id for member in groups[claim.input_group - 1]]
    texts = completed_texts(members, claim.outputs, needed_by=stage.id)
    if len(members) == 1:
        return stage.input.decode(texts[members[0]], what=what)
    return stage.input.decode(compose_object(texts), what=what)


def completed_texts(stage_ids: list[str], outputs: Mapping[str, StoredOutput], *, needed_by: str) -> dict[str, str]:
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
