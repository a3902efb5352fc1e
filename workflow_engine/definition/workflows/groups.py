"""Groups: the steps of a workflow, of one stage or of several that run at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflow_engine.definition.stages.stage import Stage


class GroupFailurePolicy(StrEnum):
    """When the siblings of a stage that failed for good end; the run fails afterwards in any case."""

    #: Waiting and suspended siblings are cancelled, running ones finish and keep their outputs.
    FINISH_RUNNING = "finish_running"
    #: All siblings are cancelled.
    FAIL_FAST = "fail_fast"
    #: All siblings end by themselves.
    WAIT_ALL = "wait_all"


@dataclass(frozen=True, slots=True)
class Group:
    """One step of a workflow: a stage, or several that run at the same time."""

    #: 1-based.
    number: int
    stages: tuple[Stage[Any, Any], ...]
    on_failure: GroupFailurePolicy = GroupFailurePolicy.FINISH_RUNNING

    @property
    def is_parallel(self) -> bool:
        """Whether the next group is given its outputs keyed by stage; a group of one gives its output itself."""
        return len(self.stages) > 1
