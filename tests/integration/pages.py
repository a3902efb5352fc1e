"""Workflows that the tests of the facade run, and how they get there."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from workflow_engine import (
    AnnotationKey,
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    WorkflowExecutor,
    WorkflowRuntime,
    stage,
)
from workflow_engine.engine import execute_stage
from workflow_engine.errors import (
    RunFailed,
)


class Page(BaseModel):
    number: int


class Stamp(BaseModel):
    number: int
    kind: str = "draft"


class Limits(BaseModel):
    most: int = 100


SCORE = AnnotationKey("review.score", int)


@stage(retry=Retry(max_attempts=1))
def check(ctx: StageContext[Page, Limits]) -> Page:
    if ctx.input.number > ctx.config.most:
        raise ValueError(f"page {ctx.input.number} is too long")
    ctx.storage.save("pages/first", ctx.input.number)
    ctx.storage.shared.save("all", [ctx.input.number])
    ctx.log.info("checked", number=ctx.input.number)
    ctx.report(cost=Decimal("0.25"), tokens=7)
    ctx.annotate(SCORE, 3)
    return ctx.input


@stage
def mark(ctx: StageContext[Page]) -> Stamp:
    return Stamp(number=ctx.input.number)


@stage(skip_if=lambda ctx: bool(ctx.input.number))
def sometimes(ctx: StageContext[Page]) -> int:
    return ctx.input.number


def arrived(ctx: PollContext[Stamp]) -> Stamp | Pending:
    return Pending()


@stage(poll=arrived)
def approve(ctx: StageContext[Page]) -> Suspend[Stamp]:
    return Suspend(Stamp(number=ctx.input.number))


pages = WorkflowBuilder("pages", input=Page).pipe(check).parallel(mark, sometimes).build()
approval = WorkflowBuilder("approval", input=Page, priority=7).pipe(approve).build()


def finish(runtime: WorkflowRuntime, number: int = 1, **options: Any) -> Any:
    """Create a run of ``pages`` and execute it to its end."""
    run = runtime.create_run(pages, Page(number=number), **options)
    with suppress(RunFailed):
        WorkflowExecutor(pages, run.id, runtime=runtime).execute()
    return run


def begin_approval(runtime: WorkflowRuntime) -> Any:
    """Create a run of ``approval`` and execute it until it waits."""
    run = runtime.create_run(approval, Page(number=1))
    [waiting] = run.list_stages()
    execute_stage(runtime.engine, waiting.id, 1)
    return run
