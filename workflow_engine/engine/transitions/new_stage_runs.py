"""From the plan that a run started with to rows of stage runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow_engine.definition import carried_options
from workflow_engine.ids import new_id
from workflow_engine.store.records import NewStageRun

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workflow_engine.definition import Plan, PlannedStage
    from workflow_engine.settings import Settings


def new_stage_runs(stages: Iterable[PlannedStage], settings: Settings) -> list[NewStageRun]:
    """Return the stage runs to insert for the planned stages."""
    return [
        NewStageRun(
            id=new_id(),
            stage_id=stage.id,
            stage_name=stage.name,
            stage_number=stage.number,
            execution_group=stage.group,
            dependencies=",".join(stage.dependencies),
            queue=stage.queue or settings.queue,
            queue_timeout_ms=stage.queue_timeout_ms,
            **carried_options(stage),
        )
        for stage in stages
    ]


def new_group(plan: Plan, number: int, settings: Settings) -> list[NewStageRun]:
    """Return the stage runs of group ``number``; empty when the plan has no such group."""
    if number > len(plan.groups):
        return []
    return new_stage_runs(plan.groups[number - 1], settings)
