"""The plan of a run: the stages and groups it started with, as a snapshot that outlives the definition.

``StageRunOptions`` is the one list of the options that a stage run carries from its definition to its claim. An option
is added in three places:

1. ``definition.stages.stage``: the field of ``Stage`` with its comment, its key in ``CommonOptions``, and its check;
2. ``StageRunOptions``: a field of the same name, with a default;
3. ``store.schema.tables``: the column of that name in ``workflow_stages``, with that server default, and its revision.

Plan, inserted row (both forms), fork, locked stage run and claim have it then. An option that nothing but the engine's
code reads needs no column: it is a field of ``PlannedStage``, with a default.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from workflow_engine.definition.workflows.groups import GroupFailurePolicy

if TYPE_CHECKING:
    from workflow_engine.definition.stages.stage import Stage

#: What this release can execute. A release that adds something to plans which a worker must not pass over counts one
#: up and writes that number into the plans that use it; whatever may be passed over is a field without a number.
UNDERSTOOD: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRunOptions:
    """The options of a stage that each of its stage runs carries, in a column of the option's name.

    ``read_from`` names the attribute of the stage where it is not the option's own name.
    """

    max_attempts: int = field(metadata={"read_from": "retry.max_attempts"})
    max_crashes: int


@dataclass(frozen=True, slots=True)
class PlannedStage(StageRunOptions):
    """A stage as the run started with it."""

    id: str
    name: str
    #: 1-based.
    group: int
    #: 1-based position in the whole workflow.
    number: int
    dependencies: tuple[str, ...]
    takes_input: bool
    #: None for the engine's, which is looked up when a stage run is inserted.
    queue: str | None
    #: Counted from the instant at which a stage run may be claimed first.
    queue_timeout_ms: int | None
    fingerprint: str


def read_options(stage: Stage[Any, Any]) -> dict[str, Any]:
    """Return the values of ``StageRunOptions`` that a stage has."""
    return {one.name: attrgetter(one.metadata.get("read_from", one.name))(stage) for one in fields(StageRunOptions)}


def carried_options(options: StageRunOptions) -> dict[str, Any]:
    """Return the values of ``StageRunOptions`` by name, to hand them on to another value that carries them."""
    return {one.name: getattr(options, one.name) for one in fields(StageRunOptions)}


#: What a planned stage is in plans of release 0.1.0, in that order.
_FIRST_FIELDS: Final = (
    "id", "name", "group", "number", "dependencies", "takes_input", "queue", "max_attempts", "max_crashes",
    "queue_timeout_ms", "fingerprint",
)  # fmt: skip
#: The rest. A plan does not name them where they have their defaults: plans that use nothing new are the same text.
_LATER_FIELDS: Final = {one.name: one.default for one in fields(PlannedStage) if one.name not in _FIRST_FIELDS}


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
        groups = [[_stage_to_json(stage) for stage in group] for group in self.groups]
        data: dict[str, Any] = {"groups": groups, "on_failure": self.on_failure, "fingerprint": self.fingerprint}
        if self.needs != 1:  # the plans of release 0.1.0 stay what they were, to the letter
            data["needs"] = self.needs
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


def _stage_to_json(stage: PlannedStage) -> dict[str, Any]:
    later = [name for name, default in _LATER_FIELDS.items() if getattr(stage, name) != default]
    return {name: getattr(stage, name) for name in (*_FIRST_FIELDS, *later)}


def _parse_stage(data: dict[str, Any]) -> PlannedStage:
    first = {name: data[name] for name in _FIRST_FIELDS}
    later = {name: data[name] for name in _LATER_FIELDS if name in data}
    return PlannedStage(**{**first, **later, "dependencies": tuple(data["dependencies"])})
