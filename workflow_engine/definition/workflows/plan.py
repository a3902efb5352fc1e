"""The plan of a run: the stages and groups it started with, as a snapshot that outlives the definition."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, fields
from typing import Final

from workflow_engine.definition.workflows.groups import GroupFailurePolicy

#: What this release can execute. A release that adds something to plans which a worker must not pass over counts one
#: up and writes that number into the plans that use it; whatever may be passed over is a field without a number.
UNDERSTOOD: Final = 1


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage as the run started with it."""

    id: str
    name: str
    #: 1-based.
    group: int
    #: 1-based position in the whole workflow.
    number: int
    dependencies: tuple[str, ...]
    takes_input: bool
    queue: str | None
    max_attempts: int
    max_crashes: int
    queue_timeout_ms: int | None
    fingerprint: str


_STAGE_FIELDS: Final = tuple(field.name for field in fields(PlannedStage))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run executes, in which order."""

    groups: tuple[tuple[PlannedStage, ...], ...]
    #: Failure policy of each group.
    on_failure: tuple[str, ...]
    #: Fingerprint of the workflow.
    fingerprint: str
    #: What a worker must understand to execute it; one that understands less gives the claim back.
    needs: int = 1

    @property
    def is_understood(self) -> bool:
        """Whether this release can execute it."""
        return self.needs <= UNDERSTOOD

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        data = asdict(self)
        if self.needs == 1:
            del data["needs"]  # the plans of release 0.1.0 stay what they were, to the letter
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan of JSON text; plans of equal text are one object. Fields of later releases are ignored."""
        return _parse(text)


def failure_policy(plan: str, group: int) -> GroupFailurePolicy:
    """Return the failure policy of a group by the JSON text of the plan.

    Ending a stage run must not fail: the default stands for whatever a later release may have written.
    """
    try:
        return GroupFailurePolicy(Plan.from_json(plan).on_failure[group - 1])
    except (ValueError, TypeError, LookupError):
        return GroupFailurePolicy.FINISH_RUNNING


@functools.lru_cache(maxsize=256)
def _parse(text: str) -> Plan:
    data = json.loads(text)
    groups = tuple(tuple(_parse_stage(stage) for stage in group) for group in data["groups"])
    return Plan(
        groups=groups,
        on_failure=tuple(data["on_failure"]),
        fingerprint=data["fingerprint"],
        needs=data.get("needs", 1),
    )


def _parse_stage(data: dict[str, object]) -> PlannedStage:
    dependencies = data["dependencies"]
    assert isinstance(dependencies, list)  # noqa: S101 - narrows the type of what to_json wrote
    known = {name: data[name] for name in _STAGE_FIELDS}
    return PlannedStage(**{**known, "dependencies": tuple(dependencies)})  # type: ignore[arg-type] # same
