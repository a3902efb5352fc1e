"""What the command prints: how far the runs are, what came out, and what to do next."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from document_analysis.session import GROUPS, count_categories, median_age

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from document_analysis.documents import Collection
    from document_analysis.session import DocumentResult, Progress

_WIDE: Final = 110
_WIDEST: Final = 132
_BAR: Final = 26
#: Without a terminal, a line of progress is written this often.
_LINE_EVERY: Final = timedelta(seconds=2)


class ProgressScreen:
    """Shows how far the runs are: bars that move on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last_line = -_LINE_EVERY

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, progress: Progress, elapsed: timedelta) -> None:
        """Show ``progress`` after ``elapsed``."""
        if self._live:
            self._live.update(progress_bars(progress, elapsed), refresh=True)
        elif progress.is_complete or elapsed - self._last_line >= _LINE_EVERY:
            self._last_line = elapsed
            self._console.print(_progress_line(progress, elapsed), soft_wrap=True)


def progress_bars(progress: Progress, elapsed: timedelta) -> Group:
    """Return a bar for each group of stages."""
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="yellow")
    for group, passed, waiting in zip(GROUPS, progress.passed, progress.waiting, strict=True):
        note = f"{waiting} waiting" if waiting else ""
        table.add_row(" + ".join(group), _bar(passed, waiting, progress.total), f"{passed}/{progress.total}", note)
    line = Text.assemble(
        (f"{progress.ended} of {format_count(progress.total, 'document')} done", "bold"),
        (f"  {format_duration(elapsed)}", "dim"),
    )
    return Group(table, Text(), line)


def report(
    results: Sequence[DocumentResult], collection: Collection, *, took: timedelta, width: int, summaries: bool
) -> Group:
    """Return the documents as a table, then totals."""
    parts: list[RenderableType] = [_documents_table(results, width)]
    if summaries:
        parts += [Text(), *_summaries(results)]
    failures = [result for result in results if result.report is None]
    if failures:
        parts += [Text(), *(_failure(result) for result in failures)]
    parts += [Text(), _categories(results), Text(), _totals(results, took)]
    if collection.skipped:
        parts += [Text(), _skipped(collection)]
    return Group(*parts)


def next_steps(directory: Path, results: Sequence[DocumentResult], *, program: str) -> Text:
    """Say how to look into the database."""
    slowest = max(results, key=lambda result: result.duration or timedelta(0))
    return Text.assemble(
        ("\nEverything is recorded. Look into it:\n", "bold"),
        f"  export WORKFLOW_ENGINE_DATABASE_URL=sqlite:///{directory / 'analysis.db'}\n",
        f"  {program} runs list\n",
        f"  {program} runs show {slowest.run_id}\n",
        f"  {program} runs events {slowest.run_id}",
    )


def interrupted(directory: Path, *, program: str) -> Text:
    """Say that nothing is lost."""
    project = Path(__file__).parents[1]
    return Text.assemble(
        ("\nStopped. ", "bold"),
        "The runs are in the database and go on with the next analysis, or with\n",
        f"  PYTHONPATH={project} {program} dev --app document_analysis.workflow:document_analysis"
        f" --database-url sqlite:///{directory / 'analysis.db'}",
    )


def format_duration(duration: timedelta | None) -> str:
    """Return ``340 ms``, ``2.4 s`` or ``3 min 5 s``; a dash for None."""
    if duration is None:
        return "–"  # noqa: RUF001 - a dash for "nothing" is meant
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def format_count(count: int, thing: str) -> str:
    """Return ``1 document``, ``1,200 documents``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _progress_line(progress: Progress, elapsed: timedelta) -> str:
    groups = zip(GROUPS, progress.passed, progress.waiting, strict=True)
    parts = [
        f"{' + '.join(group)} {passed}/{progress.total}" + (f" ({waiting} waiting)" if waiting else "")
        for group, passed, waiting in groups
    ]
    return f"{format_duration(elapsed):>7}  {'  '.join(parts)}"


def _bar(passed: int, waiting: int, total: int) -> Text:
    done = round(passed / total * _BAR)
    parked = round((passed + waiting) / total * _BAR) - done
    rest = _BAR - done - parked
    return Text.assemble(("━" * done, "green"), ("━" * parked, "yellow"), ("━" * rest, "bright_black"))


def _documents_table(results: Sequence[DocumentResult], width: int) -> Table:
    is_wide = width >= _WIDE
    table = _make_table(
        "document", "category", "keywords", "sent.", *(("words", "ease", "polls") if is_wide else ()), "time"
    )
    table.width = min(width, _WIDEST)
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for column in table.columns[3:]:
        column.justify = "right"
    table.columns[0].max_width, table.columns[1].max_width = (32, 21) if is_wide else (20, 16)
    table.columns[2].ratio = 1
    for result in results:
        found = result.report
        cells = [Text(str(result.status), style="red"), *([Text()] * (5 if is_wide else 2))]
        if found is not None:
            cells = [Text(found.category, style="cyan"), Text(", ".join(found.keywords))]
            figures = [f"{found.sentence_count:,}"]
            if is_wide:
                figures += [f"{found.word_count:,}", f"{found.readability.reading_ease:.0f}", str(result.polls)]
            cells += map(Text, figures)
        table.add_row(Text(result.name), *cells, format_duration(result.duration))
    return table


def _make_table(*headers: str) -> Table:
    return Table(*headers, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _categories(results: Sequence[DocumentResult]) -> Table:
    counts = count_categories(results)
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    most = counts[0][1] if counts else 1
    for category, number in counts:
        table.add_row(
            category, Text(str(number), justify="right"), Text("█" * max(1, round(number / most * _BAR)), style="blue")
        )
    return table


def _totals(results: Sequence[DocumentResult], took: timedelta) -> Table:
    reports = [result.report for result in results if result.report]
    attempts, polls = sum(result.attempts for result in results), sum(result.polls for result in results)
    suspended = sum((result.suspended for result in results), timedelta(0))
    sentences = format_count(sum(found.sentence_count for found in reports), "sentence")
    words = format_count(sum(found.word_count for found in reports), "word")
    executions = (attempts + polls) / took.total_seconds()
    facts = {
        "analysed": f"{format_count(len(reports), 'document')}, {sentences}, {words}",
        "time": f"{format_duration(took)}; for one document {format_duration(median_age(results))} (median)",
        "work": f"{format_count(attempts, 'attempt')} and {format_count(polls, 'poll')}, {executions:.0f} a second",
        "waiting": f"{format_duration(suspended)} in all for the batch service, holding no worker",
    }
    table = _make_table("", "")
    table.show_header = False
    for label, value in facts.items():
        table.add_row(Text(label, style="dim"), value)
    return table


def _summaries(results: Sequence[DocumentResult]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for result in results:
        if result.report:
            parts.append(Text.assemble((result.report.title, "bold"), (f"  {result.name}", "dim")))
            parts.append(Padding(Text(" ".join(result.report.summary)), (0, 0, 1, 2)))
    return parts


def _failure(result: DocumentResult) -> Text:
    stage = f" in stage {result.failed_stage}" if result.failed_stage else ""
    return Text.assemble((f"{result.status} ", "red"), f"{result.name}{stage}: {result.error}")


def _skipped(collection: Collection) -> Text:
    shown = ", ".join(f"{file.name} ({file.reason})" for file in collection.skipped[:5])
    more = f" and {len(collection.skipped) - 5} more" if len(collection.skipped) > 5 else ""  # noqa: PLR2004
    return Text(f"left out: {shown}{more}", style="dim")
