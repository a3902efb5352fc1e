"""The pipeline of the documentation, which both the accepted uses and the mistakes build on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel

from workflow_engine.definition import (
    NoInput,
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    UntilRuns,
    WorkflowBuilder,
    stage,
)
from workflow_engine.definition.waits import Wait


class Document(BaseModel):
    url: str


class ExtractConfig(BaseModel):
    max_chars: int = 10_000


class Text(BaseModel):
    body: str


class Labels(BaseModel):
    names: list[str]


class Summary(BaseModel):
    body: str


class Report(BaseModel):
    labels: list[str]
    summary: str


class BatchRef(BaseModel):
    batch_id: str


class Vectors(BaseModel):
    rows: list[float]


@stage(name="Extract text", retry=Retry(max_attempts=5))
def extract(ctx: StageContext[Document, ExtractConfig]) -> Text:
    return Text(body=ctx.input.url[: ctx.config.max_chars])


@stage
async def classify(ctx: StageContext[Text]) -> Labels:
    return Labels(names=ctx.input.body.split())


@stage
def summarize(ctx: StageContext[Text]) -> Summary:
    return Summary(body=ctx.input.body)


@stage(dependencies=[classify, summarize])
def merge(ctx: StageContext[NoInput]) -> Report:
    return Report(labels=ctx.require(classify).names, summary=ctx.require(summarize).body)


def embedded(ctx: PollContext[BatchRef, ExtractConfig]) -> Vectors | Pending:
    return Vectors(rows=[1.0]) if ctx.state.batch_id else Pending(next_poll_in=timedelta(minutes=1))


@stage(poll=embedded)
def embed(ctx: StageContext[Text, ExtractConfig]) -> Suspend[BatchRef]:
    return Suspend(BatchRef(batch_id=ctx.input.body), poll_interval=timedelta(seconds=30))


@stage
def wait_for_children(ctx: StageContext[Text]) -> UntilRuns:
    return Suspend.until_runs(ctx.run_id)


@stage(timeout=timedelta(minutes=1))
async def wait_for_children_with_options(ctx: StageContext[Text]) -> UntilRuns:
    return Suspend.until_runs(ctx.run_id)


@dataclass(frozen=True)
class Tide(Wait[int]):
    kind = "tide"

    height: int


@stage
def wait_for_tide(ctx: StageContext[Text]) -> Suspend[Tide]:
    return Suspend(Tide(len(ctx.input.body)), max_wait=timedelta(hours=7))


analysis = (
    WorkflowBuilder("document-analysis", name="Document analysis", input=Document)
    .pipe(extract)
    .parallel(classify, summarize)
    .pipe(merge)
    .build()
)
