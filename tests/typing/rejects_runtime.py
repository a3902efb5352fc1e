"""Planted mistakes in the use of the facade: type checkers must report each marked line, and no other."""

from __future__ import annotations

from pipelines import Document, Labels, Text, analysis, classify, extract

from workflow_engine import RunHandle, WorkflowExecutor, WorkflowRuntime
from workflow_engine.testing import stage_context

runtime = WorkflowRuntime([analysis])

runtime.create_run(analysis, Text(body="b"))  # expect-error: the input is a Document
runtime.create_run(analysis, "url")  # expect-error: same
runtime.create_run(analysis, Document(url="u"), priority="high")  # expect-error: a number
runtime.create_run(analysis, Document(url="u"), deadline=60)  # expect-error: a duration is a timedelta
runtime.create_run(analysis, Document(url="u"), prio=5)  # expect-error: no such argument
runtime.create_run(analysis, Document(url="u")).wait(5)  # expect-error: a duration is a timedelta
str(runtime.create_run(analysis, Document(url="u")).wait().names)  # expect-error: Report has no names
wrong: RunHandle[Labels] = runtime.create_run(analysis, Document(url="u"))  # expect-error: its output is a Report
str(runtime.get_stage_output("id", classify).body)  # expect-error: Labels has no body
runtime.rerun("id")  # expect-error: from_stage is missing
WorkflowExecutor(analysis).execute(Text(body="b"))  # expect-error: the input is a Document
ctx = stage_context(Document(url="u"), stage=extract)
ctx.create_run(analysis, Text(body="b"))  # expect-error: the input is a Document
ctx.create_run(analysis, Document(url="u"), key=1)  # expect-error: a key is a text
ctx.callback_token(valid_for=60)  # expect-error: a duration is a timedelta
stage_context(Document(url="u"), stages=extract)  # expect-error: no such argument
extract(stage_context(Text(body="b")))  # expect-error: the input is a Document
run = runtime.get_run("id")
run.fork()  # expect-error: from_stage is missing
run.complete_stage(classify)  # expect-error: the output is missing
