"""A workflow as text: an outline for terminals, and a Mermaid flowchart."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflow_engine.definition.stages.stage import Stage
    from workflow_engine.definition.workflows.groups import Group


def outline(name: str, groups: Sequence[Group]) -> str:
    """Return the order of execution, one line for each group."""
    lines = [name]
    for group in groups:
        names = " | ".join(f"{stage.name} [{stage.id}]" for stage in group.stages)
        lines.append(f"  {group.number}. {names}")
    return "\n".join(lines)


def mermaid(groups: Sequence[Group]) -> str:
    """Return a Mermaid flowchart; dotted arrows are dependencies beyond the previous group."""
    return "\n".join(["flowchart TD", *_nodes(groups), *_arrows(groups), *_dependencies(groups)])


def _nodes(groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        if not group.is_parallel:
            yield f"    {_node(group.stages[0])}"
            continue
        yield f'    subgraph group_{group.number}["Group {group.number}"]'
        yield from (f"        {_node(stage)}" for stage in group.stages)
        yield "    end"


def _node(stage: Stage[Any, Any]) -> str:
    return f'{_id(stage.id)}["{_label(stage.name)}"]'


def _arrows(groups: Sequence[Group]) -> Iterator[str]:
    for before, after in itertools.pairwise(groups):
        for stage in before.stages:
            yield from (f"    {_id(stage.id)} --> {_id(follower.id)}" for follower in after.stages)


def _dependencies(groups: Sequence[Group]) -> Iterator[str]:
    numbers = {stage.id: group.number for group in groups for stage in group.stages}
    for group in groups:
        for stage in group.stages:
            far = (d for d in stage.dependencies if numbers[d] < group.number - 1)
            yield from (f"    {_id(dependency)} -.-> {_id(stage.id)}" for dependency in far)


def _id(stage_id: str) -> str:
    """Return an id that no Mermaid keyword (``end``, ``graph``) can be taken for."""
    return f"stage_{stage_id}"


def _label(text: str) -> str:
    """Escape the characters that Mermaid reads as markup; ``#`` first, because it begins the escapes."""
    escaped = text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return " ".join(escaped.split())
