"""Where workers and callers find workflows by id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from workflow_engine.definition.workflows.workflow import Workflow
from workflow_engine.errors import DefinitionError, WorkflowNotFoundError
from workflow_engine.priorities import DEFAULT_PRIORITY, check_priority

AnyWorkflow = Workflow[Any, Any]


@runtime_checkable
class WorkflowRegistry(Protocol):
    """A registry of a team's own, in place of a list of workflows.

    It may also have ``get_workflow_priority(workflow_id) -> int | None``.
    """

    def get_workflow(self, workflow_id: str, /) -> AnyWorkflow | None:
        """Return the workflow, or None."""


class Registry:
    """The workflows that this process knows.

    Args:
        workflows: The workflows by id.
        source: Asked for workflows that are not among these, and for priorities.
    """

    def __init__(self, workflows: Mapping[str, AnyWorkflow], source: WorkflowRegistry | None = None) -> None:
        self._workflows = dict(workflows)
        self._source = source

    def get(self, workflow_id: str) -> AnyWorkflow:
        """Return a workflow.

        Raises:
            WorkflowNotFoundError: None of that id is known here.
        """
        workflow = self.find(workflow_id)
        if workflow is None:
            raise WorkflowNotFoundError(workflow_id, self.ids())
        return workflow

    def find(self, workflow_id: str) -> AnyWorkflow | None:
        """Return a workflow, or None.

        Raises:
            DefinitionError: The source gave something else than the workflow of that id.
        """
        known = self._workflows.get(workflow_id)
        if known is not None or self._source is None:
            return known
        found: object = self._source.get_workflow(workflow_id)
        if found is None:
            return None
        if not isinstance(found, Workflow) or found.id != workflow_id:
            raise DefinitionError(f"get_workflow({workflow_id!r}) returned {found!r}")
        return found

    def ids(self) -> tuple[str, ...]:
        """Return the ids of the workflows that were given, sorted; a source of its own is not listed."""
        return tuple(sorted(self._workflows))

    def stage_queues(self) -> list[str]:
        """Return the queues that stages of the workflows ask for, each once, sorted."""
        stages = (stage for workflow_id in self.ids() for stage in self.get(workflow_id).stages.values())
        return sorted({stage.queue for stage in stages if stage.queue is not None})

    def priority_of(self, workflow_id: str) -> int:
        """Return the priority of runs for which the caller names none.

        The source's ``get_workflow_priority`` is asked first; then comes the workflow's own priority, then the default.

        Raises:
            InvalidPriorityError: The source gave something that is not a priority.
        """
        ask = getattr(self._source, "get_workflow_priority", None)
        priority = ask(workflow_id) if ask is not None else None
        if priority is not None:
            return check_priority(priority, name=f"get_workflow_priority({workflow_id!r})")
        workflow = self.find(workflow_id)
        return DEFAULT_PRIORITY if workflow is None or workflow.priority is None else workflow.priority


def as_registry(workflows: object) -> Registry:
    """Return the registry of a workflow, several, a mapping by id, or an object with ``get_workflow``.

    Raises:
        DefinitionError: Something is not a workflow, two definitions share an id, or a key is not the id.
    """
    if isinstance(workflows, Registry):
        return workflows
    if isinstance(workflows, Workflow):
        return Registry({workflows.id: workflows})
    if isinstance(workflows, Mapping):
        return Registry(_from_mapping(workflows))
    if isinstance(workflows, WorkflowRegistry):
        return Registry({}, workflows)
    if isinstance(workflows, Iterable) and not isinstance(workflows, str | bytes):
        return Registry(_from_iterable(workflows))
    raise DefinitionError(f"Expected workflows, a mapping of them or a registry with get_workflow, got {workflows!r}")


def _from_mapping(workflows: Mapping[Any, Any]) -> dict[str, AnyWorkflow]:
    for key, workflow in workflows.items():
        if key != _checked(workflow).id:
            raise DefinitionError(f'Workflow "{workflow.id}" is registered under the key {key!r}')
    return dict(workflows)


def _from_iterable(workflows: Iterable[Any]) -> dict[str, AnyWorkflow]:
    known: dict[str, AnyWorkflow] = {}
    for workflow in workflows:
        if known.setdefault(_checked(workflow).id, workflow) is not workflow:
            raise DefinitionError(f'Two workflows have the id "{workflow.id}": {known[workflow.id]!r} and {workflow!r}')
    return known


def _checked(workflow: Any) -> AnyWorkflow:
    if not isinstance(workflow, Workflow):
        raise DefinitionError(f"{workflow!r} is not a workflow; call build() on the builder")
    return workflow
