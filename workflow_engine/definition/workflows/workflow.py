"""A workflow: groups of stages in order, with everything that can be asked about them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workflow_engine.clock import to_milliseconds
from workflow_engine.definition.stages.stage import Stage, hash_json
from workflow_engine.definition.workflows import config as configs
from workflow_engine.definition.workflows import diagrams
from workflow_engine.definition.workflows.plan import Plan, PlannedStage, read_options
from workflow_engine.errors import StageNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from workflow_engine.definition.workflows.groups import Group
    from workflow_engine.payloads.schemas import Schema

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Workflow(Generic[InputT, OutputT]):
    """An ordered list of groups. Made by ``WorkflowBuilder``; immutable, compared by identity."""

    id: str
    #: For people.
    name: str
    description: str
    #: A category to search runs by.
    type: str | None
    version: str
    input: Schema[InputT]
    #: Schema of the last group's value.
    output: Schema[OutputT]
    groups: tuple[Group, ...]
    #: Longest run; None for no limit.
    deadline: timedelta | None = None
    #: Priority of its runs where ``create_run`` names none; None for the default.
    priority: int | None = None

    def __repr__(self) -> str:
        return f"Workflow({self.id!r}: {self.input.name} -> {self.output.name}, {len(self.stages)} stages)"

    @functools.cached_property
    def stages(self) -> Mapping[str, Stage[Any, Any]]:
        """The stages by id, in order."""
        return MappingProxyType({stage.id: stage for group in self.groups for stage in group.stages})

    @functools.cached_property
    def group_numbers(self) -> Mapping[str, int]:
        """The 1-based number of each stage's group, by stage id."""
        return MappingProxyType({stage.id: group.number for group in self.groups for stage in group.stages})

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies the definition in every process: its groups, policies and stages' fingerprints."""
        groups = [[group.on_failure.value, [s.fingerprint for s in group.stages]] for group in self.groups]
        return hash_json([self.id, self.version, groups])

    def plan(self) -> Plan:
        """Return the stages that a run of this workflow executes, as a snapshot to store with the run."""
        return self._plan

    @property
    def execution_plan(self) -> tuple[tuple[str, ...], ...]:
        """The stage ids of each group."""
        return tuple(tuple(stage.id for stage in group.stages) for group in self.groups)

    def stage_ids(self) -> tuple[str, ...]:
        """Return the ids of all stages in order."""
        return tuple(self.stages)

    def get_stage(self, stage_id: str) -> Stage[Any, Any]:
        """Return a stage.

        Raises:
            StageNotFoundError: There is none of that id.
        """
        stage = self.find_stage(stage_id)
        if stage is None:
            raise StageNotFoundError(stage_id, self.id, self.stages)
        return stage

    def find_stage(self, stage_id: str) -> Stage[Any, Any] | None:
        """Return a stage, or None."""
        return self.stages.get(stage_id)

    def has_stage(self, stage_id: str) -> bool:
        """Tell whether there is a stage of that id."""
        return stage_id in self.stages

    def stages_in_group(self, number: int) -> tuple[Stage[Any, Any], ...]:
        """Return the stages of a group, 1-based; none for a number that no group has."""
        return self.groups[number - 1].stages if 1 <= number <= len(self.groups) else ()

    def stage_index(self, stage_id: str) -> int:
        """Return the 0-based position of a stage in the whole workflow.

        Raises:
            StageNotFoundError: There is none of that id.
        """
        return self.stage_ids().index(self.get_stage(stage_id).id)

    def group_index(self, stage_id: str) -> int:
        """Return the 1-based number of the group that a stage is in.

        Raises:
            StageNotFoundError: There is no stage of that id.
        """
        return self.group_numbers[self.get_stage(stage_id).id]

    def previous_group(self, stage_id: str) -> Group | None:
        """Return the group before the one that a stage is in; None for the first.

        Raises:
            StageNotFoundError: There is no stage of that id.
        """
        number = self.group_index(stage_id)
        return self.groups[number - 2] if number > 1 else None

    def execution_order(self) -> str:
        """Return the groups as text, one line each."""
        return diagrams.outline(self.name, self.groups)

    def to_mermaid(self) -> str:
        """Return the workflow as a Mermaid flowchart."""
        return diagrams.mermaid(self.groups)

    def stage_configs(self) -> dict[str, dict[str, Any]]:
        """Return for each stage its name, the JSON schema of its config, and the defaults."""
        return {
            stage.id: {
                "name": stage.name,
                "schema": stage.config.json_schema(),
                "defaults": configs.default_config(stage.config),
            }
            for stage in self.stages.values()
        }

    def default_config(self) -> dict[str, Any]:
        """Return the config of each stage as it is without overrides; fields without a default are absent."""
        return {stage.id: configs.default_config(stage.config) for stage in self.stages.values()}

    def validate_config(self, config: object) -> None:
        """Refuse a config that a run could not use.

        Raises:
            InvalidDataError: All problems of all stages at once, each with its path.
        """
        self.resolve_config(config)

    def resolve_config(self, config: object = None) -> dict[str, Any]:
        """Return the config of every stage as plain JSON: ``config`` merged deeply over the defaults, then parsed.

        Args:
            config: Overrides by stage id, as mappings or models.

        Raises:
            InvalidDataError: All problems of all stages at once, each with its path.
        """
        return configs.resolve_config(self.stages, config, what=f'config of workflow "{self.id}"')

    def estimate_cost(self, input: object, config: object = None) -> dict[str, Decimal]:  # noqa: A002 - the word of the domain
        """Return the expected costs of the stages that have an ``estimate_cost``, by stage id.

        Args:
            input: Input of the run.
            config: Overrides by stage id.

        Raises:
            InvalidDataError: Input or config do not fit.
        """
        parsed = self.input.parse(input, what=f'input of workflow "{self.id}"')
        resolved = self.resolve_config(config)
        estimates: dict[str, Decimal] = {}
        for stage in self.stages.values():
            if stage.estimate_cost is not None:
                stage_config = stage.config.parse_fields(resolved[stage.id], what=f'config of stage "{stage.id}"')
                estimates[stage.id] = Decimal(str(stage.estimate_cost(parsed, stage_config)))
        return estimates

    @functools.cached_property
    def _plan(self) -> Plan:
        numbers = {stage_id: number for number, stage_id in enumerate(self.stages, start=1)}
        return Plan(
            groups=tuple(
                tuple(_planned(s, group.number, numbers[s.id]) for s in group.stages) for group in self.groups
            ),
            on_failure=tuple(group.on_failure.value for group in self.groups),
            fingerprint=self.fingerprint,
        )


def _planned(stage: Stage[Any, Any], group: int, number: int) -> PlannedStage:
    return PlannedStage(
        id=stage.id,
        name=stage.name,
        group=group,
        number=number,
        dependencies=stage.dependencies,
        takes_input=stage.takes_input,
        queue=stage.queue,
        queue_timeout_ms=None if stage.queue_timeout is None else to_milliseconds(stage.queue_timeout),
        fingerprint=stage.fingerprint,
        **read_options(stage),
    )
