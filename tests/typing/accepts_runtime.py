"""What type checkers must infer of the facade."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from pipelines import BatchRef, Document, Labels, Report, analysis, classify, extract

from workflow_engine import ChildRun, RunHandle, RunStatus, WorkflowExecutor, WorkflowRuntime, create_workflow_runtime
from workflow_engine.definition import AnnotationKey, NoInput, StageContext, WorkflowBuilder, stage
from workflow_engine.testing import Recorded, WorkflowTester, cancel_context, poll_context, stage_context

SCORE = AnnotationKey("review.score", int)


@stage
def tick(ctx: StageContext[NoInput]) -> int:
    return ctx.attempt


nightly = WorkflowBuilder("nightly").pipe(tick).build()
both = WorkflowBuilder("both").parallel(tick, tick).build()

runtime = WorkflowRuntime([analysis, nightly], database_url="sqlite://")
assert_type(create_workflow_runtime(), WorkflowRuntime)

run = runtime.create_run(analysis, Document(url="u"), priority=8, deadline=timedelta(hours=1))
assert_type(run, RunHandle[Report])
assert_type(run.wait(), Report)
assert_type(run.output(), Report)
assert_type(run.wait(timeout=timedelta(minutes=5)).labels, list[str])
assert_type(run.status, RunStatus)
assert_type(run.rerun(from_stage=classify), RunHandle[Report])
assert_type(runtime.create_run(analysis, {"url": "u"}).wait(), Report)
assert_type(runtime.create_run(nightly).wait(), int)
assert_type(runtime.create_run("nightly"), RunHandle[Any])
assert_type(runtime.rerun(run.id, from_stage="classify"), RunHandle[Any])
assert_type(runtime.get_stage_output(run.id, classify), Labels)
assert_type(runtime.get_stage_output(run.id, "classify"), Any)
assert_type(runtime.get_output(run.id), Any)
assert_type(WorkflowExecutor(analysis).execute(Document(url="u")), Report)
assert_type(WorkflowExecutor(nightly, runtime=runtime).run, RunHandle[int])
runtime.annotate(run.id, SCORE, 3)
with runtime.start(concurrency=2) as started:
    assert_type(started, WorkflowRuntime)
run.pause()
assert_type(run.fork(from_stage=classify, config={}), RunHandle[Report])
assert_type(run.cancel(reason="r", terminate=True).status, RunStatus)
assert_type(run.complete_stage(classify, Labels(names=[])), bool)
assert_type(run.callback_token(classify), str)

ctx = stage_context(Document(url="u"), stage=extract, outputs={classify: Labels(names=[]), "tick": 1})
assert_type(ctx.input, Document)
assert_type(ctx.require(classify), Labels)
assert_type(ctx.recorded, Recorded)
assert_type(ctx.callback_token(valid_for=timedelta(hours=1)), str)
assert_type(ctx.create_run(analysis, Document(url="u"), key="1"), ChildRun)
assert_type(ctx.create_run("nightly", 1), ChildRun)
assert_type(stage_context(stage=tick).input, Any)
assert_type(poll_context(BatchRef(batch_id="b")).state, BatchRef)
assert_type(cancel_context(BatchRef(batch_id="b")).state, BatchRef | None)
ctx.cancelled = True
extract(ctx)
tester = WorkflowTester(analysis, signing_key="k")
assert_type(tester.create_run(analysis, Document(url="u")), RunHandle[Report])
assert_type(tester.create_run("analysis", {"url": "u"}, priority=7), RunHandle[Any])
