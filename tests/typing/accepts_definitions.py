"""What type checkers must infer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, assert_type

from pipelines import (
    BatchRef,
    Document,
    ExtractConfig,
    Labels,
    Report,
    Summary,
    Text,
    Vectors,
    analysis,
    classify,
    embed,
    embedded,
    extract,
    merge,
    summarize,
    wait_for_children,
    wait_for_children_with_options,
    wait_for_tide,
)
from pydantic import BaseModel

from workflow_engine.definition import (
    AnnotationKey,
    CancelContext,
    GroupOutput,
    NoConfig,
    NoInput,
    Pending,
    PollContext,
    Stage,
    StageContext,
    Suspend,
    Workflow,
    WorkflowBuilder,
    define_async_batch_stage,
    define_stage,
    stage,
)

assert_type(extract, Stage[Document, Text])
assert_type(classify, Stage[Text, Labels])
assert_type(embed, Stage[Text, Vectors])
assert_type(wait_for_children, Stage[Text, dict[str, Any]])
assert_type(wait_for_children_with_options, Stage[Text, dict[str, Any]])
assert_type(wait_for_tide, Stage[Text, int])
assert_type(analysis, Workflow[Document, Report])

LANGUAGE = AnnotationKey("document.language", str)


class ByStage(BaseModel):
    classify: Labels
    summarize: Summary


@stage
def count(ctx: StageContext[GroupOutput]) -> int:
    assert_type(ctx.input[classify], Labels)
    assert_type(ctx.input["classify"], Any)
    assert_type(ctx.input.get(summarize), Summary | None)
    assert_type(classify in ctx.input and "classify" in ctx.input, bool)
    assert_type([stage_id.upper() for stage_id in ctx.input], list[str])
    assert_type(ctx.require(classify), Labels)
    assert_type(ctx.require("classify"), Any)
    assert_type(ctx.optional(merge), Report | None)
    assert_type(ctx.config, NoConfig)
    assert_type(ctx.storage.load("pages/1", Text), Text)
    assert_type(ctx.cancelled, bool)
    ctx.annotate(LANGUAGE, "en")
    ctx.annotate("document.pages", 3)
    ctx.report(cost=Decimal("0.1"), tokens=5, pages=3.0)
    ctx.progress(0.5, "half", page=3)
    return len(ctx.input)


@stage
def combine(ctx: StageContext[ByStage]) -> Report:
    return Report(labels=ctx.input.classify.names, summary=ctx.input.summarize.body)


@stage
def describe(ctx: StageContext[BaseModel]) -> str:
    return str(ctx.input)


start = WorkflowBuilder("start", input=Document).pipe(extract)
assert_type(start, WorkflowBuilder[Document, Text])
assert_type(WorkflowBuilder("empty"), WorkflowBuilder[NoInput, NoInput])
assert_type(start.parallel(classify, summarize), WorkflowBuilder[Document, GroupOutput])
assert_type(start.parallel(classify, summarize).pipe(count).build(), Workflow[Document, int])
assert_type(start.parallel(classify, summarize).pipe(combine).build(), Workflow[Document, Report])
assert_type(start.pipe(describe).build(), Workflow[Document, str])
assert_type(start.pipe(merge).build(), Workflow[Document, Report])


async def polled(ctx: PollContext[BatchRef]) -> Vectors | Pending[BatchRef]:
    return Pending(state=BatchRef(batch_id=ctx.state.batch_id + "1"))


def stop(ctx: CancelContext[BatchRef]) -> None:
    ctx.log.info("stopping", batch=ctx.state)


def is_empty(ctx: StageContext[Text]) -> bool:
    return not ctx.input.body


@stage(poll=polled, on_cancel=stop, skip_if=is_empty)
async def embed_or_reuse(ctx: StageContext[Text]) -> Suspend[BatchRef] | Vectors:
    return Vectors(rows=[]) if ctx.input.body else Suspend(BatchRef(batch_id="b-1"))


assert_type(embed_or_reuse, Stage[Text, Vectors])


async def label(ctx: StageContext[Text, ExtractConfig]) -> Labels:
    return Labels(names=[ctx.input.body])


def submit(ctx: StageContext[Text, ExtractConfig]) -> Suspend[BatchRef]:
    return Suspend(BatchRef(batch_id=ctx.input.body))


assert_type(define_stage(id="label", execute=label), Stage[Text, Labels])
assert_type(define_async_batch_stage(id="e", execute=submit, check=embedded), Stage[Text, Vectors])
assert_type(define_async_batch_stage(id="e", execute=submit, check=polled), Stage[Text, Vectors])
assert_type(
    define_async_batch_stage(
        id="e", execute=submit, check=embedded, input=Text, output=Vectors, state=BatchRef, config=ExtractConfig
    ),
    Stage[Text, Vectors],
)
