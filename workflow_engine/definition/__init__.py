"""Stages, outcomes, contexts and workflows: the words that users write with.

This room is pure. It knows no database, no broker and no clock; every effect goes through ``ContextPort``, which the
engine implements.
"""

from __future__ import annotations

from workflow_engine.definition.contexts.annotations import AnnotationKey
from workflow_engine.definition.contexts.children import ChildRequest, ChildRun
from workflow_engine.definition.contexts.contexts import CancelContext, PollContext, StageContext
from workflow_engine.definition.contexts.logs import StageLog
from workflow_engine.definition.contexts.port import ContextPort, StageIdentity, StoredOutput
from workflow_engine.definition.contexts.storage import StageStorage
from workflow_engine.definition.stages.decorators import define_async_batch_stage, define_stage, stage
from workflow_engine.definition.stages.outcomes import Pending, Retry, Suspend, UntilRuns
from workflow_engine.definition.stages.stage import Stage
from workflow_engine.definition.workflows.builder import WorkflowBuilder
from workflow_engine.definition.workflows.config_presets import (
    AIConfig,
    ConcurrencyConfig,
    DebugConfig,
    FeatureFlagsConfig,
    FullConfig,
    StageConfig,
    StandardConfig,
)
from workflow_engine.definition.workflows.group_output import GroupOutput
from workflow_engine.definition.workflows.groups import Group, GroupFailurePolicy
from workflow_engine.definition.workflows.plan import Plan, PlannedStage, StageRunOptions, carried_options
from workflow_engine.definition.workflows.registry import Registry, WorkflowRegistry, as_registry
from workflow_engine.definition.workflows.workflow import Workflow
from workflow_engine.payloads.schemas import NoConfig, NoInput, Schema

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
    "StageRunOptions",
    "StageStorage",
    "StandardConfig",
    "StoredOutput",
    "Suspend",
    "UntilRuns",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowRegistry",
    "as_registry",
    "carried_options",
    "define_async_batch_stage",
    "define_stage",
    "stage",
]
