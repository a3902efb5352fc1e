"""Workflows that a release and its successor run side by side: in words that the older one knows."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from workflow_engine import WorkflowRuntime
from workflow_engine.definition import (
    GroupOutput,
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    stage,
)


class Order(BaseModel):
    number: int
    #: Polls find nothing before this file is there.
    gate: str


class Ticket(BaseModel):
    number: int
    gate: str


@stage
def prepare(ctx: StageContext[Order]) -> Order:
    return ctx.input


@stage(retry=Retry(backoff=timedelta(milliseconds=100)))
def flaky(ctx: StageContext[Order]) -> int:
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt always fails")
    return ctx.input.number


def look(ctx: PollContext[Ticket]) -> int | Pending:
    return ctx.state.number if Path(ctx.state.gate).exists() else Pending()


@stage(poll=look)
def batch(ctx: StageContext[Order]) -> Suspend[Ticket]:
    ctx.log.info("handed in")
    ticket = Ticket(number=ctx.input.number, gate=ctx.input.gate)
    return Suspend(ticket, poll_interval=timedelta(milliseconds=200))


@stage
def plain(ctx: StageContext[Order]) -> int:
    ctx.storage.save("seen", ctx.input.number)
    return ctx.input.number


@stage
def add(ctx: StageContext[GroupOutput]) -> int:
    return ctx.require(flaky) + ctx.require(batch) + ctx.require(plain)


@stage
def double(ctx: StageContext[int]) -> int:
    return ctx.input * 2


orders = (
    WorkflowBuilder("orders", input=Order).pipe(prepare).parallel(flaky, batch, plain).pipe(add).pipe(double).build()
)
workflows = [orders]

if __name__ == "__main__":  # create a run with the release that is installed here
    runtime = WorkflowRuntime(workflows=workflows)
    sys.stdout.write(runtime.create_run(orders, Order(number=int(sys.argv[1]), gate=sys.argv[2])).id)
