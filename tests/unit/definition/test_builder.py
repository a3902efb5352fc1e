"""Workflows are checked as a whole when they are built; every mistake names the stages involved."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, NotRequired

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_serializer, model_validator
from typing_extensions import TypedDict

from workflow_engine.definition import (
    GroupFailurePolicy,
    GroupOutput,
    NoInput,
    Stage,
    StageContext,
    WorkflowBuilder,
    define_stage,
    stage,
)
from workflow_engine.errors import DefinitionError


class Document(BaseModel):
    url: str


class Text(BaseModel):
    body: str


class LongText(Text):
    pages: int = 0


class Labels(BaseModel):
    names: list[str]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    body: str = ""


class Lenient(BaseModel):
    body: str = ""


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Rewriting(BaseModel):
    names: list[str]

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, value: Any) -> Any:
        return {"names": [value["body"]]}


class Disguised(BaseModel):
    a: int

    @model_serializer
    def disguise(self) -> dict[str, Any]:
        return {"body": "b"}


class Hidden(BaseModel):
    body: str = Field(default="", exclude=True)


class AsDict(TypedDict):
    body: str
    note: NotRequired[str]


class ByStage(BaseModel):
    first: Labels
    second: Any


class ByStrangers(BaseModel):
    first: Any
    stranger: Any


class ByOne(BaseModel):
    model_config = ConfigDict(extra="forbid")
    first: Any


@stage
def extract(ctx: StageContext[Document]) -> Text:
    return Text(body="")


@stage
def first(ctx: StageContext[Text]) -> Labels:
    return Labels(names=[])


@stage
def second(ctx: StageContext[Text]) -> Text:
    return Text(body="")


@stage
def merge(ctx: StageContext[NoInput]) -> int:
    return 1


@stage
def gather(ctx: StageContext[GroupOutput]) -> int:
    return 1


def make(stage_id: str, given: Any = NoInput, returned: Any = int, **options: Any) -> Stage[Any, Any]:
    return define_stage(id=stage_id, execute=lambda _: None, input=given, output=returned, **options)


def start(**options: Any) -> WorkflowBuilder[Any, Any]:
    return WorkflowBuilder("analysis", input=Document, **options)


def refusal(builder: WorkflowBuilder[Any, Any]) -> str:
    with pytest.raises(DefinitionError) as caught:
        builder.build()
    prefix, message = str(caught.value).split(" cannot be built: ", 1)
    assert prefix.startswith("Workflow ")
    return message


def test_pipe_and_parallel_make_groups_in_order() -> None:
    workflow = start().pipe(extract).parallel(first, second).pipe(merge).build()

    assert workflow.execution_plan == (("extract",), ("first", "second"), ("merge",))
    assert [group.number for group in workflow.groups] == [1, 2, 3]
    assert [group.is_parallel for group in workflow.groups] == [False, True, False]
    assert (workflow.input.type, workflow.output.type) == (Document, int)


def test_a_workflow_may_end_with_a_parallel_group() -> None:
    assert start().pipe(extract).parallel(first, second).build().output.type is GroupOutput


def test_the_head_is_kept() -> None:
    workflow = (
        WorkflowBuilder(
            "document-analysis", description="d", type="docs", version="3", deadline=timedelta(hours=1), priority=0
        )
        .pipe(merge)
        .build()
    )

    assert (workflow.id, workflow.name, workflow.description) == ("document-analysis", "Document analysis", "d")
    assert (workflow.type, workflow.version, workflow.deadline) == ("docs", "3", timedelta(hours=1))
    assert (workflow.priority, workflow.input.type) == (0, NoInput)


def test_each_step_gives_a_new_builder() -> None:
    base = start().pipe(extract)

    one, other = base.pipe(first), base.pipe(second)

    assert base.build().execution_plan == (("extract",),)
    assert one.build().execution_plan == (("extract",), ("first",))
    assert other.build().execution_plan == (("extract",), ("second",))
    assert repr(one) == "WorkflowBuilder('analysis', 2 groups)"


def test_the_failure_policy_of_a_group_wins_over_the_workflows() -> None:
    workflow = (
        start(on_failure=GroupFailurePolicy.WAIT_ALL)
        .pipe(extract)
        .parallel(first, second, on_failure=GroupFailurePolicy.FAIL_FAST)
        .build()
    )

    assert [group.on_failure for group in workflow.groups] == ["wait_all", "fail_fast"]


def test_without_policy_running_stages_finish() -> None:
    assert start().pipe(extract).build().groups[0].on_failure is GroupFailurePolicy.FINISH_RUNNING


def test_an_empty_workflow_is_refused() -> None:
    assert refusal(start()) == "it has no stages (pipe and parallel return a new builder: chain them)"


def test_a_group_of_none_or_one_is_refused() -> None:
    assert refusal(start().parallel()) == "group 1: parallel needs two stages or more, got none; use pipe for one"
    assert refusal(start().pipe(extract).parallel(first)) == (
        'group 2: parallel needs two stages or more, got "first"; use pipe for one'
    )


@pytest.mark.parametrize("wrong", [None, "extract", extract.body, Stage], ids=["none", "id", "function", "class"])
def test_what_is_no_stage_is_refused(wrong: Any) -> None:
    assert "is not a stage; decorate the function with @stage" in refusal(start().pipe(extract).pipe(wrong))


def test_a_list_of_stages_is_refused() -> None:
    assert "group 2: [Stage('first'" in refusal(start().pipe(extract).parallel([first, second]))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["", "Upper", "a b", "é", "a" * 101, 3, None], ids=repr)
def test_workflow_ids_must_match(wrong: Any) -> None:
    assert f"workflow id {wrong!r} is not valid" in refusal(WorkflowBuilder(wrong).pipe(merge))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": 11}, "priority must be a whole number from 0 (least) to 10 (most important), got 11"),
        ({"priority": -1}, "priority must be a whole number from 0 (least) to 10 (most important), got -1"),
        ({"priority": True}, "priority must be a whole number from 0 (least) to 10 (most important), got True"),
        ({"priority": 5.0}, "priority must be a whole number from 0 (least) to 10 (most important), got 5.0"),
        ({"deadline": 60}, "deadline must be a timedelta, not int"),
        ({"deadline": timedelta(0)}, "deadline must be more than zero"),
        ({"on_failure": "panic"}, "on_failure must be one of 'finish_running', 'fail_fast', 'wait_all', got 'panic'"),
        ({"name": 3}, "name must be a string, not int"),
        ({"type": 3}, "type must be a string, not int"),
        ({"version": 3}, "version must be a string, not int"),
    ],
    ids=str,
)
def test_a_head_that_does_not_fit_is_refused(options: Any, message: str) -> None:
    assert message in refusal(start(**options).pipe(extract))


def test_an_input_that_pydantic_does_not_know_is_refused() -> None:
    assert "cannot be used as a schema" in refusal(WorkflowBuilder("w", input=object()))


def test_duplicate_ids_are_refused_with_their_groups() -> None:
    assert refusal(start().pipe(extract).parallel(first, make("extract")).pipe(make("first"))) == (
        'stage "extract" appears 2 times, in groups 1, 2; stage "first" appears 2 times, in groups 2, 3'
    )


def test_dependencies_must_be_in_earlier_groups() -> None:
    early = make("early", dependencies=["late"])
    same = make("same", dependencies=["peer"])
    lost = make("lost", dependencies=["erly", "nobody"])

    message = refusal(WorkflowBuilder("w").pipe(early).parallel(same, make("peer")).pipe(lost).pipe(make("late")))

    assert message == (
        'stage "early" depends on "late", which comes later, in group 4; '
        'stage "same" depends on "peer", which is in the same group 2; '
        'stage "lost" depends on "erly", which is not in the workflow (did you mean "early"? stages: early, same, peer, lost, late); '
        'stage "lost" depends on "nobody", which is not in the workflow (stages: early, same, peer, lost, late)'
    )


def test_a_dependency_on_an_earlier_group_is_taken() -> None:
    workflow = start().pipe(extract).pipe(first).pipe(make("last", dependencies=[extract, "first"])).build()

    assert workflow.get_stage("last").dependencies == ("extract", "first")


def test_all_mistakes_are_listed_at_once() -> None:
    message = refusal(start().pipe(first).pipe(make("x", Document, dependencies=["y"])))

    assert message == (
        'stage "x" depends on "y", which is not in the workflow (stages: first, x); '
        'stage "first" takes Text, but would be given Document: it has no "body"; '
        'stage "x" takes Document, but would be given Labels: it has no "url" (the output of stage "first")'
    )


@pytest.mark.parametrize(
    ("returned", "given"),
    [
        (Text, Text),
        (LongText, Text),
        (Text, LongText),
        (Text, Any),
        (Any, Text),
        (Text, object),
        (Text, NoInput),
        (Text, Lenient),
        (Text, Strict),
        (Labels, Lenient),
        (Text | None, Text),
        (Text, Text | Labels),
        (Text, dict[str, Any]),
        (dict[str, Any], Text),
        (Open, Text),
        (AsDict, Text),
        (Text, Rewriting),
        (Disguised, Text),
        (int, str),
        (int, float),
        (list[int], list[str]),
        (Labels, Annotated[list[str], BeforeValidator(lambda value: value["names"])]),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", str(value)),
)
def test_an_input_that_may_fit_is_taken(returned: Any, given: Any) -> None:
    workflow = WorkflowBuilder("w").pipe(make("before", NoInput, returned)).pipe(make("after", given)).build()

    assert workflow.has_stage("after")


@pytest.mark.parametrize(
    ("returned", "given", "reason"),
    [
        (Labels, Text, 'it has no "body"'),
        (Text, list[str], "expected array, not object"),
        (int, Text, "expected object, not integer"),
        (type(None), Text, "expected object, not null"),
        (Text, type(None), "expected null, not object"),
        (list[Text], Text, "expected object, not array"),
        (Labels, Strict, '"names" would be extra'),
        (Hidden, Text, 'it has no "body"'),
        (Labels, AsDict, 'it has no "body"'),
    ],
    ids=str,
)
def test_an_input_that_cannot_fit_is_refused(returned: Any, given: Any, reason: str) -> None:
    before, after = make("before", NoInput, returned), make("after", given)

    assert refusal(WorkflowBuilder("w").pipe(before).pipe(after)) == (
        f'stage "after" takes {after.input.name}, but would be given {before.output.name}: {reason} '
        '(the output of stage "before")'
    )


def test_group_output_needs_a_parallel_group_before_it() -> None:
    assert refusal(start().pipe(extract).pipe(gather)).startswith(
        'stage "gather" takes a GroupOutput, but no parallel group comes before it'
    )
    assert refusal(start().pipe(gather)).startswith('stage "gather" takes a GroupOutput')


@pytest.mark.parametrize("given", [GroupOutput, NoInput, ByStage, dict[str, Any], Any, Open, Lenient], ids=str)
def test_after_a_parallel_group_these_inputs_are_taken(given: Any) -> None:
    workflow = start().pipe(extract).parallel(first, second).pipe(make("last", given)).build()

    assert workflow.has_stage("last")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (ByStrangers, 'it has no "stranger"'),
        (ByOne, '"second" would be extra'),
        (Text, 'it has no "body"'),
        (list[int], "expected array, not object"),
    ],
    ids=str,
)
def test_after_a_parallel_group_these_inputs_are_refused(given: Any, reason: str) -> None:
    last = make("last", given)

    assert refusal(start().pipe(extract).parallel(first, second).pipe(last)) == (
        f'stage "last" takes {last.input.name}, but would be given the outputs of the group, '
        f"keyed by first, second: {reason}"
    )


def test_every_member_of_a_group_must_take_the_input() -> None:
    assert 'stage "wrong" takes Labels, but would be given Text' in refusal(
        start().pipe(extract).parallel(first, make("wrong", Labels))
    )
