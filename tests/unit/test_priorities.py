"""The scale of priorities stands in one module, and everything that takes or sends a priority goes by it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import workflow_engine
from workflow_engine import WorkflowBuilder, WorkflowRuntime, priorities, stage
from workflow_engine.definition import NoInput, StageContext, Workflow
from workflow_engine.definition.workflows.registry import Registry
from workflow_engine.errors import DefinitionError, InvalidPriorityError
from workflow_engine.worker.wire.broker_priorities import STEPS, priority_step
from workflow_engine.worker.wire.queues import ARGUMENTS

PACKAGE = Path(workflow_engine.__file__).parent


@stage
def wait(ctx: StageContext[NoInput]) -> str:
    return ctx.run_id


class Prioritising:
    """A registry of a team, with priorities of its own."""

    def __init__(self, priority: int) -> None:
        self.priority = priority

    def get_workflow(self, workflow_id: str) -> Workflow[Any, Any]:
        return WorkflowBuilder(workflow_id).pipe(wait).build()

    def get_workflow_priority(self, _: str) -> int:
        return self.priority


def take_by_builder(priority: int) -> int | None:
    return WorkflowBuilder("a", priority=priority).pipe(wait).build().priority


def take_by_registry(priority: int) -> int:
    return Registry({}, Prioritising(priority)).priority_of("a")


def take_by_run(priority: int) -> int:
    with WorkflowRuntime(WorkflowBuilder("a").pipe(wait).build(), database_url="sqlite://") as runtime:
        return runtime.create_run("a", priority=priority).snapshot().priority


def take_by_fork(priority: int) -> int:
    with WorkflowRuntime(WorkflowBuilder("a").pipe(wait).build(), database_url="sqlite://") as runtime:
        run = runtime.create_run("a")
        run.cancel()
        return runtime.fork(run.id, from_stage=wait, priority=priority).snapshot().priority


TAKERS = [take_by_builder, take_by_registry, take_by_run, take_by_fork]


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("refused", [priorities.LOWEST_PRIORITY - 1, priorities.HIGHEST_PRIORITY + 1])
def test_the_scale_is_what_every_taker_of_a_priority_goes_by(
    take: Any, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((DefinitionError, InvalidPriorityError), match=r"from 0 \(least\) to 10 \(most important\)"):
        take(refused)

    monkeypatch.setattr(priorities, "LOWEST_PRIORITY", -1)
    monkeypatch.setattr(priorities, "HIGHEST_PRIORITY", 11)

    assert take(refused) == refused


def test_messages_go_by_the_same_scale() -> None:
    assert ARGUMENTS["x-max-priority"] == priorities.HIGHEST_PRIORITY
    assert priority_step(priorities.HIGHEST_PRIORITY) == 0
    assert priority_step(priorities.LOWEST_PRIORITY) == STEPS - 1


def name_priorities(tree: ast.Module) -> list[int]:
    """Return the lines that give a name for a priority a number."""
    assigned = [
        (target, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return [
        target.lineno
        for target, value in assigned
        if isinstance(target, ast.Name)
        and "priority" in target.id.lower()
        and any(isinstance(part, ast.Constant) and isinstance(part.value, int) for part in ast.walk(value or target))
    ]


def test_no_other_module_gives_a_priority_a_number() -> None:
    named = {path.name for path in PACKAGE.rglob("*.py") if name_priorities(ast.parse(path.read_text()))}

    assert named == {"priorities.py"}


@pytest.mark.parametrize("planted", ["RECOVERY_PRIORITY = 10", "LOWEST_PRIORITY: Final = 0", "priority = max(own, 5)"])
def test_a_priority_with_a_number_is_found(planted: str) -> None:
    assert name_priorities(ast.parse(planted)) == [1]
