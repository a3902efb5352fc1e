"""The load: workflows of every shape whose outputs depend on their input alone, and a ledger of what was executed.

Set ``FAULTS_LEDGER`` to a file to have every execution noted there; without it nothing kills its own process.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from workflow_engine.definition import (
    GroupFailurePolicy,
    NoInput,
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    stage,
)

LEDGER_VARIABLE = "FAULTS_LEDGER"
#: How long the body of a "long" stage takes; several leases of a campaign.
LONG_VARIABLE = "FAULTS_LONG_SECONDS"
MEGABYTE = 1_000_000
#: Seconds between the moments at which stages that end together do.
TICK = 0.2
#: Seconds in which a failure is recorded: its siblings end while that is under way.
LAG = 0.003
#: Faults take workers down at random; no stage of the load may run out of its budget for that.
CRASHES = 1000
OFTEN = Retry(max_attempts=50, backoff=timedelta(milliseconds=100), max_backoff=timedelta(seconds=1))


class Number(BaseModel):
    n: int


class Text(BaseModel):
    body: str


class Ticket(BaseModel):
    n: int
    ready_after: int


def note(ctx: StageContext[Any, Any] | PollContext[Any, Any], kind: str) -> None:
    """Append to the ledger that this execution began; O_APPEND keeps lines of many processes whole."""
    path = os.environ.get(LEDGER_VARIABLE)
    if path:
        line = f"{kind} {ctx.stage_run_id} {ctx.fence} {os.getpid()}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def work(ctx: StageContext[Any, Any], milliseconds: int = 0) -> None:
    """Note the execution and take a while."""
    note(ctx, "execute")
    if LEDGER_VARIABLE in os.environ:
        threading.Event().wait(milliseconds / 1000)


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def build_step(name: str, milliseconds: int) -> Any:
    @stage(id=name, max_crashes=CRASHES, retry=OFTEN)
    def step(ctx: StageContext[Number]) -> Number:
        work(ctx, milliseconds)
        return Number(n=digest(name, ctx.input.n))

    return step


first, second, third, fourth = (build_step(f"step-{number}", 20) for number in range(1, 5))
start = build_step("start", 10)
members = [build_step(f"member-{number}", 40 * number) for number in range(1, 6)]


@stage(max_crashes=CRASHES, retry=OFTEN, dependencies=members)
def merge(ctx: StageContext[NoInput]) -> Number:
    work(ctx)
    return Number(n=digest("merge", *(ctx.require(member).n for member in members)))


@stage(max_crashes=CRASHES, retry=OFTEN)
def flaky(ctx: StageContext[Number]) -> Number:
    work(ctx, 10)
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt fails")
    if ctx.attempt == 2:
        raise MemoryError("the second attempt fails as well")
    return Number(n=digest("flaky", ctx.input.n))


@stage(max_crashes=CRASHES, retry=OFTEN)
async def asynchronous(ctx: StageContext[Number]) -> Number:
    note(ctx, "execute")
    return Number(n=digest("asynchronous", ctx.input.n))


def is_ready(ctx: PollContext[Ticket]) -> Number | Pending:
    note(ctx, "poll")
    if ctx.polls < ctx.state.ready_after:
        return Pending(next_poll_in=timedelta(milliseconds=300))
    return Number(n=digest("batch", ctx.state.n))


@stage(max_crashes=CRASHES, retry=OFTEN, poll=is_ready)
def batch(ctx: StageContext[Number]) -> Suspend[Ticket]:
    work(ctx, 10)
    return Suspend(Ticket(n=ctx.input.n, ready_after=2), poll_interval=timedelta(milliseconds=200))


@stage(max_crashes=CRASHES, retry=OFTEN)
def inflate(ctx: StageContext[Number]) -> Text:
    work(ctx)
    unit = f"{ctx.input.n:x}-ü-\u0000"
    return Text(body=(unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE])


@stage(max_crashes=CRASHES, retry=OFTEN)
def copy(ctx: StageContext[Text]) -> Text:
    work(ctx)
    return Text(body=ctx.input.body[::-1])


@stage(max_crashes=CRASHES, retry=OFTEN)
def deflate(ctx: StageContext[Text]) -> Number:
    work(ctx)
    return Number(n=digest("deflate", ctx.input.body))


@stage(max_crashes=CRASHES, retry=OFTEN)
def killer(ctx: StageContext[Number]) -> Number:
    work(ctx, 10)
    if ctx.attempt <= 2 and LEDGER_VARIABLE in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return Number(n=digest("killer", ctx.input.n))


@stage(max_crashes=CRASHES, retry=OFTEN)
def long(ctx: StageContext[Number]) -> Number:
    work(ctx, int(1000 * float(os.environ.get(LONG_VARIABLE, "0"))))
    return Number(n=digest("long", ctx.input.n))


def end_with_the_others(ctx: StageContext[Any, Any], lag: float = 0.0) -> None:
    """Note the execution, and go on at the next tick of the clock, as every other process does."""
    work(ctx)
    if LEDGER_VARIABLE in os.environ:
        threading.Event().wait(TICK - time.time() % TICK + lag)


@stage(max_crashes=CRASHES, retry=Retry(max_attempts=1))
def failing(ctx: StageContext[Number]) -> Number:
    end_with_the_others(ctx)
    raise ValueError("as planned")


def build_sibling(name: str) -> Any:
    @stage(id=name, max_crashes=CRASHES, retry=OFTEN)
    def sibling(ctx: StageContext[Number]) -> Number:
        end_with_the_others(ctx, LAG)
        return Number(n=digest(name, ctx.input.n))

    return sibling


#: They go on whatever fails, so what they return must be recorded, although the run fails.
siblings = [build_sibling(f"sibling-{number}") for number in range(1, 3)]


def build(name: str, *groups: Any) -> Any:
    builder: Any = WorkflowBuilder(name, input=Number)
    for group in groups:
        builder = builder.parallel(*group) if isinstance(group, list) else builder.pipe(group)
    return builder.build()


workflows = [
    build("chain", first, second, third, fourth),
    build("fan", start, members, merge),
    build("flaky", start, flaky, asynchronous),
    build("batch", start, batch, second),
    build("parallel-batches", start, [batch, flaky, first]),
    build("big", start, inflate, copy, deflate),
    build("killer", start, killer, second),
    build("long", start, long),
    WorkflowBuilder("failing-sibling", input=Number)
    .pipe(start)
    .parallel(failing, *siblings, on_failure=GroupFailurePolicy.WAIT_ALL)
    .build(),
]
