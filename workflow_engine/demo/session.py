"""One demo: a database of its own, a run for each document, how far they are, and what came out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from workflow_engine.demo.workflow import Document, DocumentReport, document_analysis
from workflow_engine.facade.runtime import WorkflowRuntime
from workflow_engine.lifecycle import RunStatus
from workflow_engine.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from workflow_engine.demo.documents import Collection, SourceDocument
    from workflow_engine.store.reads.snapshots import Page, RunSnapshot, StageSnapshot

#: Ids of the stages, by group.
GROUPS: Final = tuple(tuple(stage.id for stage in group.stages) for group in document_analysis.groups)

_PAGE: Final = 500
#: The demo waits for seconds where production waits for minutes.
_PACE: Final[dict[str, Any]] = {"sweep_interval": timedelta(seconds=1), "poll_interval": timedelta(milliseconds=500)}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the runs are."""

    total: int
    ended: int
    #: For each group of stages, how many documents are past it.
    passed: tuple[int, ...]
    #: For each group, how many documents wait in it for something outside.
    waiting: tuple[int, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every run has ended."""
        return self.ended == self.total


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """What became of one document."""

    name: str
    run: RunSnapshot
    report: DocumentReport | None
    #: Attempts of all stages.
    attempts: int
    polls: int
    #: How long it waited for the batch service.
    suspended: timedelta


class DemoSession:
    """Runs the demo's workflow for each document of a collection, in this process.

    Args:
        database: The SQLite file; the stand-in keeps its jobs beside it.
        collection: The documents.
    """

    def __init__(self, database: Path, collection: Collection) -> None:
        settings = Settings.load(database_url=f"sqlite:///{database}", broker_url="memory://", **_PACE)
        self.runtime = WorkflowRuntime(workflows=[document_analysis], settings=settings)
        self._service_directory = database.parent / "readability_service"
        self._collection = collection
        #: Run ids by document, in the order of the collection.
        self.run_ids: dict[str, str] = {}

    def create_run(self, document: SourceDocument) -> str:
        """Create the run of one document."""
        run = self.runtime.create_run(
            document_analysis,
            Document(name=document.name, text=document.text, encoding=document.encoding),
            config={"readability": {"service_directory": str(self._service_directory)}},
            metadata={"document": document.name},
        )
        self.run_ids[document.name] = run.id
        return run.id

    def create_runs(self) -> None:
        """Create a run for each document."""
        for document in self._collection.documents:
            self.create_run(document)

    def progress(self) -> Progress:
        """Look how far the runs are: one query, whatever their number of stages."""
        runs = [run for page in self._pages() for run in page.items]
        numbers = range(1, len(GROUPS) + 1)
        return Progress(
            total=len(self._collection.documents),
            ended=sum(run.status.is_terminal for run in runs),
            passed=tuple(sum(_is_past(run, number) for run in runs) for number in numbers),
            waiting=tuple(sum(_waits_in(run, number) for run in runs) for number in numbers),
        )

    def results(self) -> list[DocumentResult]:
        """Return what became of each document, in the order of the collection."""
        return [self._result(name, run_id) for name, run_id in self.run_ids.items()]

    def _pages(self) -> Iterator[Page[RunSnapshot]]:
        cursor = None
        while True:
            page = self.runtime.list_runs(workflow=document_analysis, limit=_PAGE, cursor=cursor)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    def _result(self, name: str, run_id: str) -> DocumentResult:
        run = self.runtime.get_run(run_id).snapshot()
        stages = self.runtime.list_stages(run_id)
        is_complete = run.status is RunStatus.COMPLETED
        return DocumentResult(
            name=name,
            run=run,
            report=self.runtime.get_output(run_id) if is_complete else None,
            attempts=sum(stage.attempt for stage in stages),
            polls=sum(stage.polls for stage in stages),
            suspended=sum((_suspended(stage) for stage in stages), timedelta(0)),
        )


def count_categories(results: Iterable[DocumentResult]) -> list[tuple[str, int]]:
    """Return how many documents are of each category, the largest first."""
    return Counter(result.report.category for result in results if result.report).most_common()


def median_duration(results: Iterable[DocumentResult]) -> timedelta | None:
    """Return the median time from a document's creation to its end."""
    durations = sorted(_elapsed(result.run.created_at, result.run.completed_at) for result in results if result.report)
    return durations[len(durations) // 2] if durations else None


def _is_past(run: RunSnapshot, group: int) -> bool:
    return run.status is RunStatus.COMPLETED or run.current_group > group


def _waits_in(run: RunSnapshot, group: int) -> bool:
    return run.status is RunStatus.SUSPENDED and run.current_group == group


def _suspended(stage: StageSnapshot) -> timedelta:
    return _elapsed(stage.suspended_at, stage.completed_at)


def _elapsed(start: datetime | None, end: datetime | None) -> timedelta:
    return end - start if start and end else timedelta(0)
