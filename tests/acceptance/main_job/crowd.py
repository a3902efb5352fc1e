"""A workflow whose stages all wait for something outside; one of them asks a service that hangs."""

from __future__ import annotations

import threading
from datetime import timedelta

from pydantic import BaseModel

from workflow_engine.definition import (
    GroupOutput,
    Pending,
    PollContext,
    Stage,
    StageContext,
    Suspend,
    WorkflowBuilder,
    stage,
)
from workflow_engine.definition import define_async_batch_stage as define_batch

MEMBERS = 4


class Order(BaseModel):
    number: int
    hangs: bool = False


def _submit(ctx: StageContext[Order]) -> Suspend[Order]:
    return Suspend(ctx.input, poll_interval=timedelta(hours=1))


def _check(ctx: PollContext[Order]) -> int | Pending:
    if ctx.state.hangs and ctx.polls == 0:
        threading.Event().wait()  # until poll_timeout
    return ctx.state.number


def _member(number: int) -> Stage[Order, int]:
    return define_batch(
        id=f"wait{number}",
        execute=_submit,
        check=_check,
        input=Order,
        output=int,
        state=Order,
        poll_timeout=timedelta(seconds=15),
    )


@stage
def total(ctx: StageContext[GroupOutput]) -> int:
    return sum(ctx.input.values())


crowd = (
    WorkflowBuilder("crowd", input=Order).parallel(*(_member(number) for number in range(MEMBERS))).pipe(total).build()
)


@stage
def block(ctx: StageContext[Order]) -> int:
    if ctx.input.hangs:
        threading.Event().wait()
    return ctx.input.number


blocking = WorkflowBuilder("blocking", input=Order).pipe(block).build()
