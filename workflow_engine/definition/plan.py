"""The plan of a run: the stages and groups it started with, as a snapshot that outlives the definition."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run executes, in which order."""

    groups: tuple[tuple[PlannedStage, ...], ...]
    #: Failure policy of each group.
    on_failure: tuple[str, ...]
    #: Fingerprint of the workflow.
    fingerprint: str

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan of JSON text; plans of equal text are one object."""
        return _parse(text)


@functools.lru_cache(maxsize=256)
def _parse(text: str) -> Plan:
    data = json.loads(text)
    groups = tuple(tuple(_parse_stage(stage) for stage in group) for group in data["groups"])
    return Plan(groups=groups, on_failure=tuple(data["on_failure"]), fingerprint=data["fingerprint"])


def _parse_stage(data: dict[str, object]) -> PlannedStage:
    dependencies = data["dependencies"]
    assert isinstance(dependencies, list)  # noqa: S101 - narrows the type of what to_json wrote
    return PlannedStage(**{**data, "dependencies": tuple(dependencies)})  # type: ignore[arg-type] # same
