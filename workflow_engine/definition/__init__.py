"""What users write with: stages, outcomes, contexts, workflows.

This room is pure. It knows no database, no broker and no clock; whatever has an effect goes through ``ContextPort``,
which the engine implements.
"""

from __future__ import annotations

from workflow_engine.definition.annotations import AnnotationKey
from workflow_engine.definition.builder import WorkflowBuilder
from workflow_engine.definition.children import ChildRequest, ChildRun
from workflow_engine.definition.context import CancelContext, PollContext, StageContext
from workflow_engine.definition.decorators import define_async_batch_stage, define_stage, stage
from workflow_engine.definition.group_output import GroupOutput
from workflow_engine.definition.groups import Group, GroupFailurePolicy
from workflow_engine.definition.logs import StageLog
from workflow_engine.definition.outcomes import Pending, Retry, Suspend, UntilRuns
from workflow_engine.definition.plan import Plan, PlannedStage
from workflow_engine.definition.ports import ContextPort, StageIdentity, StoredOutput
from workflow_engine.definition.presets import (
    AIConfig,
    ConcurrencyConfig,
    DebugConfig,
    FeatureFlagsConfig,
    FullConfig,
    StageConfig,
    StandardConfig,
)
from workflow_engine.definition.registry import Registry, WorkflowRegistry, as_registry
from workflow_engine.definition.schemas import NoConfig, NoInput, Schema
from workflow_engine.definition.stage import Stage
from workflow_engine.definition.storage import StageStorage
from workflow_engine.definition.workflow import Workflow

__all__ = [
    "AIConfig",
    "AnnotationKey",
    "CancelContext",
    "ChildRequest",
    "ChildRun",
    "ConcurrencyConfig",
    "ContextPort",
    "DebugConfig",
    "FeatureFlagsConfig",
    "FullConfig",
    "Group",
    "GroupFailurePolicy",
    "GroupOutput",
    "NoConfig",
    "NoInput",
    "Pending",
    "Plan",
    "PlannedStage",
    "PollContext",
    "Registry",
    "Retry",
    "Schema",
    "Stage",
    "StageConfig",
    "StageContext",
    "StageIdentity",
    "StageLog",
    "StageStorage",
    "StandardConfig",
    "StoredOutput",
    "Suspend",
    "UntilRuns",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowRegistry",
    "as_registry",
    "define_async_batch_stage",
    "define_stage",
    "stage",
]
