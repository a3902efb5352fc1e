"""The definition that a claim is executed with, or the reason to leave the claim to another worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.definition import Plan
from workflow_engine.engine.decisions.failures import describe
from workflow_engine.engine.decisions.outcomes import MismatchReason, decide_mismatch
from workflow_engine.engine.waits.registry import find_kind
from workflow_engine.store.records import ClaimKind

if TYPE_CHECKING:
    from workflow_engine.definition import Stage, Workflow
    from workflow_engine.engine.decisions.outcomes import Mismatched
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.records import Claim


def match_definition(engine: Engine, claim: Claim) -> tuple[Workflow[Any, Any], Stage[Any, Any]] | Mismatched:
    """Return the workflow and the stage, or the one that this worker lacks. No code of the stage is called here."""
    try:
        workflow = engine.registry.find(claim.workflow_id)
    except Exception as error:  # noqa: BLE001 - a registry of the user's
        return decide_mismatch(MismatchReason.WORKFLOW, describe(error, engine.redactor).message, engine.settings)
    if workflow is None:
        known = ", ".join(sorted(engine.registry.ids())) or "none"
        problem = f'workflow "{claim.workflow_id}" is not registered on worker {engine.worker_id} (registered: {known})'
        return decide_mismatch(MismatchReason.WORKFLOW, problem, engine.settings)
    if (later := _find_later_release(engine, claim)) is not None:
        return decide_mismatch(MismatchReason.RELEASE, later, engine.settings)
    stage = workflow.find_stage(claim.stage_id)
    if stage is None:
        problem = (
            f'stage "{claim.stage_id}" is in the plan of the run but not in workflow "{claim.workflow_id}" '
            f"on worker {engine.worker_id} (stages: {', '.join(workflow.stages)})"
        )
        return decide_mismatch(MismatchReason.STAGE, problem, engine.settings)
    kind = find_kind(claim.suspended_on) if claim.kind is ClaimKind.POLL else None
    if kind is not None and (lack := kind.find_lack(stage)) is not None:
        return decide_mismatch(MismatchReason.STAGE, lack, engine.settings)
    return workflow, stage


def _find_later_release(engine: Engine, claim: Claim) -> str | None:
    try:
        is_understood = Plan.from_json(claim.plan).is_understood
    except (ValueError, TypeError, LookupError):
        is_understood = False
    if not is_understood:
        return f"the plan of the run was written by a later release than that of worker {engine.worker_id}"
    if claim.kind is ClaimKind.POLL and find_kind(claim.suspended_on) is None:
        return (
            f'stage "{claim.stage_id}" waits for "{claim.suspended_on}", '
            f"which the release of worker {engine.worker_id} does not know"
        )
    return None
