"""The analysis as a workflow: documents through every stage, on a database of their own."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from document_analysis.documents import SourceDocument
from document_analysis.session import AnalysisSession, count_categories, median_age
from workflow_engine import RunStatus

WHILE = """
The "while" statement
*********************

The "while" statement is used for repeated execution as long as an expression is true. The loop tests the
expression and, if it is true, executes the first suite. If the expression is false, the suite of the "else" clause,
if present, is executed and the loop terminates.

   while_stmt ::= "while" assignment_expression ":" suite

A "break" statement executed in the first suite terminates the loop without executing the "else" clause.
"""


def finish(session: AnalysisSession) -> None:
    with session.runtime as runtime:
        runtime.start(concurrency=2)
        for run in session.runs.values():
            run.wait(timeout=timedelta(seconds=60))


def test_a_document_goes_through_every_stage(tmp_path: Path) -> None:
    session = AnalysisSession(tmp_path)

    session.create_runs([SourceDocument("while.rst", WHILE)])
    finish(session)

    (result,) = session.results()
    report = result.report
    assert report is not None
    assert (report.name, report.title, report.category) == ("while.rst", 'The "while" statement', "control flow")
    assert (report.sentence_count, report.paragraph_count, report.code_lines) == (4, 2, 1)
    assert "suite" in report.keywords
    assert len(report.summary) == 2
    assert 0 < report.readability.reading_ease < 100
    assert result.attempts == 6
    assert result.polls >= 2
    assert result.suspended >= timedelta(seconds=1)


def test_progress_goes_from_nothing_to_everything(tmp_path: Path) -> None:
    session = AnalysisSession(tmp_path)

    session.create_runs([SourceDocument(f"{number}.rst", WHILE) for number in range(3)])
    before = session.progress()
    finish(session)
    after = session.progress()

    assert (before.passed, before.ended, before.is_complete) == ((0, 0, 0, 0), 0, False)
    assert (after.passed, after.waiting, after.ended, after.is_complete) == ((3, 3, 3, 3), (0, 0, 0, 0), 3, True)
    assert len(list((tmp_path / "readability_service").glob("*.json"))) == 3
    assert count_categories(session.results()) == [("control flow", 3)]
    assert (median_age(session.results()) or timedelta(0)) > timedelta(seconds=1)


def test_a_document_that_waits_is_counted_as_waiting(tmp_path: Path) -> None:
    session = AnalysisSession(tmp_path)
    session.create_runs([SourceDocument("while.rst", WHILE)])

    with session.runtime as runtime:
        runtime.start(concurrency=2)
        while session.runs["while.rst"].status is not RunStatus.SUSPENDED:
            time.sleep(0.02)
        progress = session.progress()

    assert progress.passed == (1, 1, 0, 0)
    assert progress.waiting == (0, 0, 1, 0)


def test_runs_of_an_earlier_session_are_not_counted(tmp_path: Path) -> None:
    first, second = AnalysisSession(tmp_path), AnalysisSession(tmp_path)

    first.create_runs([SourceDocument("while.rst", WHILE), SourceDocument("again.rst", WHILE)])
    second.create_runs([SourceDocument("while.rst", WHILE)])
    finish(second)

    assert (second.progress().total, second.progress().ended) == (1, 1)
    first.runtime.close()
