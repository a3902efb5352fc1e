"""Planted mistakes in the use of the facade: type checkers must report each marked line, and no other."""

from __future__ import annotations

from pipelines import Document, Labels, Text, analysis, classify

from workflow_engine import RunHandle, WorkflowExecutor, WorkflowRuntime

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
