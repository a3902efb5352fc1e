"""How workflows are made: ``WorkflowBuilder(...).pipe(a).parallel(b, c).pipe(d).build()``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar, overload

from workflow_engine.definition.stages.stage import Stage, in_words
from workflow_engine.definition.workflows.group_output import GroupOutput
from workflow_engine.definition.workflows.groups import Group, GroupFailurePolicy
from workflow_engine.definition.workflows.verification import Draft, DraftGroup, check_draft
from workflow_engine.definition.workflows.workflow import Workflow
from workflow_engine.payloads.schemas import NoInput, Schema

if TYPE_CHECKING:
    from datetime import timedelta

InputT = TypeVar("InputT")
CurrentT = TypeVar("CurrentT")
I = TypeVar("I")  # noqa: E741 - an input
O = TypeVar("O")  # noqa: E741 - an output


class WorkflowBuilder(Generic[InputT, CurrentT]):
    """Gathers the groups of a workflow; each step returns a new builder, and ``build`` checks everything at once.

    Args:
        id: Of the workflow; must match ``[a-z0-9][a-z0-9_-]*``, at most 100 characters.
        name: For people; the id in words by default.
        input: Type of the runs' input; ``NoInput`` by default.
        description: For people.
        type: A category to search runs by.
        version: Changes the fingerprint.
        deadline: Longest run; None for no limit.
        priority: Of its runs where ``create_run`` names none: 0 to 10, higher is more important.
        on_failure: When the other stages of a group end after one failed, where ``parallel`` does not say.

    Example:
        ``WorkflowBuilder("analysis", input=Document).pipe(extract).parallel(classify, summarize).pipe(merge).build()``
    """

    @overload
    def __init__(
        self: WorkflowBuilder[NoInput, NoInput],
        id: str,
        *,
        name: str | None = None,
        description: str = "",
        type: str | None = None,
        version: str = "1",
        deadline: timedelta | None = None,
        priority: int | None = None,
        on_failure: GroupFailurePolicy = GroupFailurePolicy.FINISH_RUNNING,
    ) -> None: ...

    @overload
    def __init__(
        self: WorkflowBuilder[I, I],
        id: str,
        *,
        input: type[I],
        name: str | None = None,
        description: str = "",
        type: str | None = None,
        version: str = "1",
        deadline: timedelta | None = None,
        priority: int | None = None,
        on_failure: GroupFailurePolicy = GroupFailurePolicy.FINISH_RUNNING,
    ) -> None: ...

    def __init__(
        self,
        id: str,  # noqa: A002 - the word of the domain
        *,
        name: str | None = None,
        input: Any = NoInput,  # noqa: A002 - same
        description: str = "",
        type: str | None = None,  # noqa: A002 - same
        version: str = "1",
        deadline: timedelta | None = None,
        priority: int | None = None,
        on_failure: GroupFailurePolicy = GroupFailurePolicy.FINISH_RUNNING,
    ) -> None:
        self._draft = Draft(
            id=id,
            name=in_words(id) if name is None else name,
            description=description,
            type=type,
            version=version,
            input=input,
            deadline=deadline,
            priority=priority,
            on_failure=on_failure,
        )

    def __repr__(self) -> str:
        return f"WorkflowBuilder({self._draft.id!r}, {len(self._draft.groups)} groups)"

    @overload
    def pipe(self, stage: Stage[CurrentT, O]) -> WorkflowBuilder[InputT, O]: ...

    @overload
    def pipe(self, stage: Stage[NoInput, O]) -> WorkflowBuilder[InputT, O]: ...

    @overload
    def pipe(self: WorkflowBuilder[I, GroupOutput], stage: Stage[Never, O]) -> WorkflowBuilder[I, O]: ...

    def pipe(self, stage: Stage[Any, Any]) -> WorkflowBuilder[Any, Any]:
        """Add a group of one stage, whose input is the output of the group before it."""
        return self._with_group(DraftGroup((stage,), self._draft.on_failure, is_parallel=False))

    @overload
    def parallel(
        self, *stages: Stage[CurrentT, Any] | Stage[NoInput, Any], on_failure: GroupFailurePolicy | None = None
    ) -> WorkflowBuilder[InputT, GroupOutput]: ...

    @overload
    def parallel(
        self: WorkflowBuilder[I, GroupOutput], *stages: Stage[Never, Any], on_failure: GroupFailurePolicy | None = None
    ) -> WorkflowBuilder[I, GroupOutput]: ...

    def parallel(
        self, *stages: Stage[Any, Any], on_failure: GroupFailurePolicy | None = None
    ) -> WorkflowBuilder[Any, GroupOutput]:
        """Add a group of two or more stages that run at the same time and are all given the same value.

        Args:
            stages: The members; the next stage is given their outputs by stage.
            on_failure: When the other members end after one failed; the workflow's policy if None.
        """
        policy = self._draft.on_failure if on_failure is None else on_failure
        return self._with_group(DraftGroup(stages, policy, is_parallel=True))

    def build(self) -> Workflow[InputT, CurrentT]:
        """Check everything and return the workflow.

        Raises:
            DefinitionError: All mistakes at once, with the stages involved.
        """
        draft = self._draft
        check_draft(draft)
        return Workflow(
            id=draft.id,
            name=draft.name,
            description=draft.description,
            type=draft.type,
            version=draft.version,
            input=Schema.of(draft.input),
            output=_output_of(draft.groups[-1]),
            groups=tuple(
                Group(number, group.stages, GroupFailurePolicy(group.on_failure))
                for number, group in enumerate(draft.groups, start=1)
            ),
            deadline=draft.deadline,
            priority=draft.priority,
        )

    def _with_group(self, group: DraftGroup) -> WorkflowBuilder[Any, Any]:
        builder: WorkflowBuilder[Any, Any] = WorkflowBuilder.__new__(WorkflowBuilder)
        builder._draft = replace(self._draft, groups=(*self._draft.groups, group))
        return builder


def _output_of(last: DraftGroup) -> Schema[Any]:
    return Schema.of(GroupOutput) if last.is_parallel else last.stages[0].output
