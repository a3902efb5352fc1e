"""Workflows of the worker tests; imported by the workers that they start, and by the tests themselves."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from workflow_engine.definition import (
    CancelContext,
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
    number: int = 0
    #: A named pipe: opening it for reading blocks until the test opens it for writing.
    gate: str = ""
    #: Every execution appends its process id here.
    journal: str = ""


class Ticket(BaseModel):
    number: int


def _note(journal: str) -> None:
    with Path(journal).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")


@stage
def double(ctx: StageContext[Order]) -> Order:
    return Order(number=ctx.input.number * 2)


def collect(ctx: PollContext[Ticket]) -> Order | Pending:
    return Order(number=ctx.state.number + 1)


@stage(poll=collect)
def hand_in(ctx: StageContext[Order]) -> Suspend[Ticket]:
    return Suspend(Ticket(number=ctx.input.number), poll_interval=timedelta(milliseconds=100))


@stage
def hold(ctx: StageContext[Order]) -> Order:
    _note(ctx.input.journal)
    Path(ctx.input.gate).read_bytes()
    return ctx.input


@stage(retry=Retry(backoff=timedelta(milliseconds=100)))
def exhaust_memory(ctx: StageContext[Order]) -> Order:
    raise MemoryError("no more")


@stage(queue="printer")
def use_printer(ctx: StageContext[Order]) -> Order:
    return Order(number=ctx.input.number + 100)


def look_for_gate(ctx: PollContext[Order]) -> Order | Pending:
    return ctx.state if Path(ctx.state.gate).exists() else Pending()


def note_the_end(ctx: CancelContext[Order]) -> None:
    _note(ctx.state.journal if ctx.state else "")


@stage(poll=look_for_gate, on_cancel=note_the_end, max_wait=timedelta(seconds=4))
def order_elsewhere(ctx: StageContext[Order]) -> Suspend[Order]:
    return Suspend(ctx.input, poll_interval=timedelta(hours=1))


@stage
def plus_one(ctx: StageContext[Order]) -> int:
    return ctx.input.number + 1


@stage
def plus_two(ctx: StageContext[Order]) -> int:
    return ctx.input.number + 2


@stage
def add(ctx: StageContext[GroupOutput]) -> int:
    return ctx.require(plus_one) + ctx.require(plus_two)


@stage(timeout=timedelta(seconds=1), retry=Retry(max_attempts=1))
def never_return(ctx: StageContext[Order]) -> Order:
    _note(ctx.input.journal)
    threading.Event().wait()
    return ctx.input


@stage(timeout=timedelta(seconds=1), retry=Retry(max_attempts=1))
async def block_the_loop(ctx: StageContext[Order]) -> Order:
    _note(ctx.input.journal)
    threading.Event().wait()
    return ctx.input


@stage(timeout=timedelta(seconds=1), retry=Retry(max_attempts=1))
async def leave_a_thread(ctx: StageContext[Order]) -> Order:
    _note(ctx.input.journal)
    await asyncio.to_thread(threading.Event().wait)
    return ctx.input


@stage(timeout=timedelta(minutes=1))
async def await_something(ctx: StageContext[Order]) -> Order:
    _note(ctx.input.journal)
    await asyncio.sleep(0.01)
    return ctx.input


def collect_order(ctx: PollContext[Order]) -> Order | Pending:
    return ctx.state if ctx.polls else Pending()


@stage(poll=collect_order)
def wait_outside(ctx: StageContext[Order]) -> Suspend[Order]:
    _note(ctx.input.journal)
    return Suspend(ctx.input, poll_interval=timedelta(milliseconds=100))


@stage
def note(ctx: StageContext[Order]) -> Order:
    _note(ctx.input.journal)
    return ctx.input


arithmetic = WorkflowBuilder("arithmetic", input=Order).pipe(double).pipe(hand_in).build()
holding = WorkflowBuilder("holding", input=Order).pipe(hold).build()
exhausting = WorkflowBuilder("exhausting", input=Order).pipe(exhaust_memory).build()
printing = WorkflowBuilder("printing", input=Order).pipe(use_printer).build()
ordering = WorkflowBuilder("ordering", input=Order).pipe(order_elsewhere).build()
spreading = WorkflowBuilder("spreading", input=Order).pipe(double).parallel(plus_one, plus_two).pipe(add).build()

#: By what they end with: every pool executes each of them once.
completing = [WorkflowBuilder(one.id, input=Order).pipe(one).build() for one in (note, await_something, wait_outside)]
overrunning = [
    WorkflowBuilder(one.id, input=Order).pipe(one).build() for one in (never_return, block_the_loop, leave_a_thread)
]

workflows = [arithmetic, holding, exhausting, printing, ordering, spreading, *completing, *overrunning]
