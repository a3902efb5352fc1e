"""Durable, typed, staged workflows inside the Celery workers, the Redis and the SQL database that a team already runs.

Names are imported when they are first used: importing the package loads neither SQLAlchemy nor Celery.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from workflow_engine.definition import (
        AnnotationKey,
        CancelContext,
        ChildRun,
        GroupFailurePolicy,
        GroupOutput,
        NoInput,
        Pending,
        PollContext,
        Retry,
        Stage,
        StageContext,
        Suspend,
        UntilRuns,
        Workflow,
        WorkflowBuilder,
        define_async_batch_stage,
        define_stage,
        stage,
    )
    from workflow_engine.errors import RetryAfter, WorkflowEngineError
    from workflow_engine.facade.executor import WorkflowExecutor
    from workflow_engine.facade.run_handle import RunHandle
    from workflow_engine.facade.runtime import WorkflowRuntime, create_workflow_runtime
    from workflow_engine.lifecycle import RunStatus, StageStatus
    from workflow_engine.settings import Settings

__all__ = [
    "AnnotationKey",
    "CancelContext",
    "ChildRun",
    "GroupFailurePolicy",
    "GroupOutput",
    "NoInput",
    "Pending",
    "PollContext",
    "Retry",
    "RetryAfter",
    "RunHandle",
    "RunStatus",
    "Settings",
    "Stage",
    "StageContext",
    "StageStatus",
    "Suspend",
    "UntilRuns",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowEngineError",
    "WorkflowExecutor",
    "WorkflowRuntime",
    "create_workflow_runtime",
    "define_async_batch_stage",
    "define_stage",
    "stage",
]

_ELSEWHERE: Final = {
    "RetryAfter": "errors",
    "RunHandle": "facade.run_handle",
    "RunStatus": "lifecycle",
    "Settings": "settings",
    "StageStatus": "lifecycle",
    "WorkflowEngineError": "errors",
    "WorkflowExecutor": "facade.executor",
    "WorkflowRuntime": "facade.runtime",
    "create_workflow_runtime": "facade.runtime",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'definition')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
