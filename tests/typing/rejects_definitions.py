"""Planted mistakes: type checkers must report each marked line, and no other."""

from __future__ import annotations

from datetime import timedelta

from pipelines import (
    BatchRef,
    Document,
    ExtractConfig,
    Labels,
    Text,
    classify,
    embed,
    embedded,
    extract,
    merge,
    summarize,
)

from workflow_engine.definition import (
    AnnotationKey,
    GroupOutput,
    Pending,
    Retry,
    StageContext,
    Suspend,
    Workflow,
    WorkflowBuilder,
    define_stage,
    stage,
)

LANGUAGE = AnnotationKey("document.language", str)

builder = WorkflowBuilder("mistakes", input=Document)
builder.pipe(classify)  # expect-error: Document is not Text
builder.pipe(extract).pipe(extract)  # expect-error: Text is not Document
builder.pipe(extract).parallel(classify, extract)  # expect-error: Text is not Document
builder.pipe(extract).pipe(embed).pipe(summarize)  # expect-error: Vectors is not Text
builder.pipe(classify.body)  # expect-error: not a stage
WorkflowBuilder("mistakes").pipe(extract)  # expect-error: NoInput is not Document
WorkflowBuilder(3, input=Document)  # expect-error: an id is a string
WorkflowBuilder("mistakes", input=Document, dedline=timedelta(1))  # expect-error: no such option
wrong: Workflow[Document, Labels] = builder.pipe(extract).build()  # expect-error: its output is Text

ExtractConfig(max_char=5)  # expect-error: no such field
ExtractConfig(max_chars="many")  # expect-error: not an int
Retry(max_attempts="3")  # expect-error: not an int
Retry(backoff=1)  # expect-error: a duration is a timedelta
Pending(30)  # expect-error: a duration is a timedelta
Suspend(BatchRef(batch_id="1"), 30)  # expect-error: keyword only
embed.id = "other"  # expect-error: immutable


@stage
def read(ctx: StageContext[GroupOutput, ExtractConfig]) -> str:
    str(ctx.input[classify].body)  # expect-error: Labels has no body
    str(ctx.require(merge).body)  # expect-error: Report has no body
    str(ctx.optional(classify).names)  # expect-error: may be None
    str(ctx.config.max_char)  # expect-error: no such field
    ctx.input = None  # expect-error: read-only
    ctx.annotate(LANGUAGE, 3, 4)  # expect-error: too many arguments
    ctx.report(tokens="5")  # expect-error: not an int
    ctx.progress("half")  # expect-error: not a number
    ctx.storage.load(3)  # expect-error: a key is a string
    return ctx.require(summarize)  # expect-error: Summary is not str


@stage(timeout=5)  # expect-error: a duration is a timedelta
def slow(ctx: StageContext[Text]) -> str:
    return ctx.input.body


@stage(retries=5)  # expect-error: no such option
def retried(ctx: StageContext[Text]) -> str:
    return ctx.input.body


@stage(poll=embedded)  # expect-error: the poll returns Vectors, the body Labels
def other_output(ctx: StageContext[Text]) -> Suspend[BatchRef] | Labels:
    return Labels(names=[ctx.input.body])


@stage(poll=embedded)  # expect-error: the poll takes a BatchRef
def other_state(ctx: StageContext[Text]) -> Suspend[int]:
    return Suspend(len(ctx.input.body))


def label(ctx: StageContext[Text]) -> Labels:
    return Labels(names=[ctx.input.body])


define_stage(id="label", execute=label, input=Document, config=3)  # expect-error: not a type
