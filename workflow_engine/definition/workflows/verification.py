"""The checks before a workflow is built: all mistakes are found at once, and each names the stages involved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.definition.checks import check_name, check_optional_duration, describe_id, is_valid_id
from workflow_engine.definition.stages.stage import Stage
from workflow_engine.definition.workflows.compatibility import refuse_group, refuse_value
from workflow_engine.definition.workflows.groups import GroupFailurePolicy
from workflow_engine.errors import DefinitionError, InvalidPriorityError
from workflow_engine.names import among
from workflow_engine.payloads.schemas import Schema
from workflow_engine.priorities import check_priority

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class DraftGroup:
    """A group as it was given to the builder."""

    stages: tuple[Any, ...]
    on_failure: Any
    is_parallel: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """A workflow as far as a builder has gathered it, unchecked."""

    id: Any
    name: Any
    description: Any
    type: Any
    version: Any
    input: Any
    deadline: Any
    priority: Any
    on_failure: Any
    groups: tuple[DraftGroup, ...] = ()


def check_draft(draft: Draft) -> None:
    """Refuse a draft that cannot become a workflow.

    Raises:
        DefinitionError: All mistakes at once, with the stages involved.
    """
    mistakes = [*_mistakes_of_head(draft), *_mistakes_of_groups(draft.groups)]
    if not mistakes:
        mistakes = [
            *_mistakes_of_ids(draft.groups),
            *_mistakes_of_dependencies(draft.groups),
            *_mistakes_of_flow(draft),
        ]
    if mistakes:
        raise DefinitionError(f"Workflow {draft.id!r} cannot be built: " + "; ".join(dict.fromkeys(mistakes)))


def _mistakes_of_head(draft: Draft) -> Iterator[str]:
    if not is_valid_id(draft.id):
        yield describe_id("workflow", draft.id)
    yield from _mistakes_of_priority(draft.priority)
    yield from _mistakes_of_policy(draft.on_failure)
    try:
        check_optional_duration("deadline", draft.deadline)
        for option in ("name", "description", "version"):
            check_name(option, getattr(draft, option))
        if draft.type is not None:
            check_name("type", draft.type)
        Schema.of(draft.input)
    except (TypeError, ValueError, DefinitionError) as error:
        yield str(error)


def _mistakes_of_priority(priority: object) -> Iterator[str]:
    try:
        if priority is not None:
            check_priority(priority)
    except InvalidPriorityError as error:
        yield str(error)


def _mistakes_of_policy(policy: object) -> Iterator[str]:
    if not isinstance(policy, str) or policy not in set(GroupFailurePolicy):
        choices = ", ".join(repr(choice.value) for choice in GroupFailurePolicy)
        yield f"on_failure must be one of {choices}, got {policy!r}"


def _mistakes_of_groups(groups: Sequence[DraftGroup]) -> Iterator[str]:
    if not groups:
        yield "it has no stages (pipe and parallel return a new builder: chain them)"
    for number, group in enumerate(groups, start=1):
        yield from _mistakes_of_policy(group.on_failure)
        if group.is_parallel and len(group.stages) < 2:  # noqa: PLR2004 - fewer do not run at the same time
            given = ", ".join(_name(stage) for stage in group.stages) or "none"
            yield f"group {number}: parallel needs two stages or more, got {given}; use pipe for one"
        for stage in group.stages:
            if not isinstance(stage, Stage):
                yield f"group {number}: {stage!r} is not a stage; decorate the function with @stage"


def _name(stage: object) -> str:
    return f'"{stage.id}"' if isinstance(stage, Stage) else repr(stage)


def _mistakes_of_ids(groups: Sequence[DraftGroup]) -> Iterator[str]:
    numbers: dict[str, list[int]] = {}
    for number, group in enumerate(groups, start=1):
        for stage in group.stages:
            numbers.setdefault(stage.id, []).append(number)
    for stage_id, places in numbers.items():
        if len(places) > 1:
            yield f'stage "{stage_id}" appears {len(places)} times, in groups {", ".join(map(str, places))}'


def _mistakes_of_dependencies(groups: Sequence[DraftGroup]) -> Iterator[str]:
    numbers = {stage.id: number for number, group in enumerate(groups, start=1) for stage in group.stages}
    for number, group in enumerate(groups, start=1):
        for stage in group.stages:
            for dependency in stage.dependencies:
                reason = _refuse_dependency(dependency, number, numbers)
                if reason is not None:
                    yield f'stage "{stage.id}" depends on "{dependency}", which {reason}'


def _refuse_dependency(dependency: str, number: int, numbers: Mapping[str, int]) -> str | None:
    found = numbers.get(dependency)
    if found is None:
        return "is not in the workflow" + among(dependency, numbers, kind="stages")
    if found == number:
        return f"is in the same group {number}"
    return f"comes later, in group {found}" if found > number else None


def _mistakes_of_flow(draft: Draft) -> Iterator[str]:
    for before, group in zip((None, *draft.groups), draft.groups, strict=False):
        for stage in group.stages:
            reason = _refuse_input(stage, before, draft)
            if reason is not None:
                yield f'stage "{stage.id}" {reason}'


def _refuse_input(stage: Stage[Any, Any], before: DraftGroup | None, draft: Draft) -> str | None:
    if before is None:
        return refuse_value(stage, Schema.of(draft.input))
    if before.is_parallel:
        return refuse_group(stage, before.stages)
    previous = before.stages[0]
    reason = refuse_value(stage, previous.output)
    return f'{reason} (the output of stage "{previous.id}")' if reason else None
