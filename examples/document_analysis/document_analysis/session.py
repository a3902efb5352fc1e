"""One analysis: a run for each document, how far the runs are, and what came out."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median_low
from typing import TYPE_CHECKING, Final

from document_analysis.workflow import Document, DocumentReport, document_analysis
from workflow_engine import RunHandle, RunStatus, WorkflowRuntime

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from document_analysis.documents import SourceDocument

#: Ids of the stages, by group.
GROUPS: Final = tuple(tuple(stage.id for stage in group.stages) for group in document_analysis.groups)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the runs are."""

    total: int
    ended: int
    #: For each group of stages, how many documents are past it.
    passed: tuple[int, ...]
    #: For each group of stages, how many documents are suspended in it.
    waiting: tuple[int, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every run has ended."""
        return self.ended == self.total


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """What became of one document."""

    name: str
    run_id: str
    status: RunStatus
    #: None unless the run is complete.
    report: DocumentReport | None
    #: Why the run failed, and in which stage.
    error: str | None
    failed_stage: str | None
    #: From the first claim of a worker to the end.
    duration: timedelta | None
    #: From the creation of the run to the end.
    age: timedelta
    #: Attempts of all stages.
    attempts: int
    polls: int
    #: How long the document waited for the batch service.
    suspended: timedelta


class AnalysisSession:
    """Creates and follows the runs of some documents; a worker in this process executes them.

    Args:
        directory: Holds the database, and the jobs of the stand-in for a batch service.
    """

    def __init__(self, directory: Path) -> None:
        self.runtime = WorkflowRuntime(
            workflows=[document_analysis],
            database_url=f"sqlite:///{directory / 'analysis.db'}",
            broker_url="memory://",
            # A program that ends in seconds looks more often than a fleet that runs for months.
            sweep_interval=timedelta(seconds=1),
            poll_interval=timedelta(milliseconds=500),
        )
        self._config = {"readability": {"service_directory": str(directory / "readability_service")}}
        #: Tells the runs of this session from earlier ones in the same database.
        self._id = uuid.uuid4().hex
        #: The runs by the document's name, in the order of their creation.
        self.runs: dict[str, RunHandle[DocumentReport]] = {}

    def create_runs(self, documents: Sequence[SourceDocument]) -> None:
        """Create a run for each document."""
        for document in documents:
            self.runs[document.name] = self.runtime.create_run(
                document_analysis,
                Document(name=document.name, text=document.text, encoding=document.encoding),
                config=self._config,
                metadata={"session": self._id, "document": document.name},
            )

    def progress(self) -> Progress:
        """Look how far the runs are: one query for each thousand of them."""
        page = self.runtime.list_runs(metadata={"session": self._id}, limit=1000)
        runs = [*page.items]
        while page.next_cursor:
            page = self.runtime.list_runs(metadata={"session": self._id}, limit=1000, cursor=page.next_cursor)
            runs += page.items
        complete = sum(run.status is RunStatus.COMPLETED for run in runs)
        unfinished = [run for run in runs if run.status is not RunStatus.COMPLETED]
        waiting = Counter(run.current_group for run in runs if run.status is RunStatus.SUSPENDED)
        numbers = range(1, len(GROUPS) + 1)
        return Progress(
            total=len(self.runs),
            ended=sum(run.status.is_terminal for run in runs),
            passed=tuple(complete + sum(run.current_group > number for run in unfinished) for number in numbers),
            waiting=tuple(waiting[number] for number in numbers),
        )

    def results(self) -> list[DocumentResult]:
        """Return what became of each document, in the order of the documents."""
        return [_result(name, run) for name, run in self.runs.items()]


def count_categories(results: Iterable[DocumentResult]) -> list[tuple[str, int]]:
    """Return how many documents are of each category, the largest first."""
    return Counter(result.report.category for result in results if result.report).most_common()


def median_age(results: Iterable[DocumentResult]) -> timedelta | None:
    """Return the median time from a run's creation to its end."""
    ages = [result.age for result in results if result.report]
    return median_low(ages) if ages else None


def _result(name: str, handle: RunHandle[DocumentReport]) -> DocumentResult:
    run, stages = handle.snapshot(), handle.list_stages()
    return DocumentResult(
        name=name,
        run_id=run.id,
        status=run.status,
        report=handle.output() if run.status is RunStatus.COMPLETED else None,
        error=run.error_message,
        failed_stage=run.failed_stage_id,
        duration=run.duration,
        age=_elapsed(run.created_at, run.completed_at),
        attempts=sum(stage.attempt for stage in stages),
        polls=sum(stage.polls for stage in stages),
        suspended=sum((_elapsed(stage.suspended_at, stage.completed_at) for stage in stages), timedelta(0)),
    )


def _elapsed(start: datetime | None, end: datetime | None) -> timedelta:
    return end - start if start and end else timedelta(0)
