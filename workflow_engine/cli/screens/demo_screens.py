"""The screens of the demo: the workflow, how far its runs are, and what came out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from workflow_engine import demo
from workflow_engine.cli.screens.console import fitted_table, make_table
from workflow_engine.cli.screens.formatting import format_count, format_duration, one_line
from workflow_engine.cli.screens.graphs import draw_groups
from workflow_engine.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from workflow_engine.store.reads.snapshots import RunSnapshot, StageSnapshot

_GROUPS: Final = [[stage.id for stage in group.stages] for group in demo.reading.groups]
_BAR: Final = 30
#: The table of documents is this long at most; the other documents are counted.
_MOST_ROWS: Final = 15
#: Without a terminal, a line of progress is written this often.
_LINE_EVERY: Final = timedelta(seconds=2)


class ProgressScreen:
    """Shows how far the runs are: bars that move on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._next_line = timedelta(0)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, runs: Sequence[RunSnapshot], elapsed: timedelta) -> None:
        """Show the runs as they are after ``elapsed``."""
        if self._live:
            self._live.update(_progress_bars(runs, elapsed), refresh=True)
        elif elapsed >= self._next_line or all(run.status.is_terminal for run in runs):
            self._next_line = elapsed + _LINE_EVERY
            parts = [f"{name} {passed}/{len(runs)}" for name, passed, _ in _count_by_group(runs)]
            self._console.print(f"{format_duration(elapsed):>7}  {'   '.join(parts)}", soft_wrap=True)


def introduction(count: int, path: Path | None, url: str, *, width: int) -> Text:
    """Say what is about to happen, and draw the workflow."""
    origin = one_line(str(path)) if path else "Python's language reference"
    return Text.assemble(
        (f"A workflow, and a run of it for each of {format_count(count, 'document')}\n", "title"),
        ("documents  ", "label"), f"{origin}\n",
        ("database   ", "label"), f"{url}\n",
        ("source     ", "label"), f"{demo.__file__}\n\n",
        "\n".join(f"  {line}" for line in draw_groups(_GROUPS, width=width - 2)), "\n",
    )  # fmt: skip


def summary(
    reports: Sequence[demo.Report],
    runs: Sequence[RunSnapshot],
    stages: Sequence[StageSnapshot],
    took: timedelta,
    *,
    width: int,
) -> Group:
    """Return the documents as a table, the runs that failed, and what the engine did."""
    rows = [[Text(cell) for cell in _describe(report, width)] for report in reports[:_MOST_ROWS]]
    table = fitted_table(("document", "words", "level", "to read", "frequent words"), rows, width=width, flexible=4)
    table.columns[1].justify = table.columns[3].justify = "right"
    more = len(reports) - _MOST_ROWS
    failed = [run for run in runs if run.status is not RunStatus.COMPLETED]
    return Group(
        table,
        Text(f"and {more:,} more\n" if more > 0 else "", style="label"),
        *(
            Text(f"{run.metadata['document']} {run.status}: {one_line(run.error_message or '')}", "bad")
            for run in failed
        ),
        _facts(runs, stages, took),
    )


def next_steps(url: str, run_id: str) -> Text:
    """Say how to look into the database, and how to go on."""
    return Text.assemble(
        ("\nEverything is recorded. Look into it, and run a part of it again:\n", "title"),
        f"  export WORKFLOW_ENGINE_DATABASE_URL={url}\n",
        "  export WORKFLOW_ENGINE_WORKFLOWS=workflow_engine.demo:reading\n",
        f"  RUN={run_id}\n",
        "  workflow-engine runs list\n",
        "  workflow-engine runs show $RUN                      # stages, errors\n",
        "  workflow-engine runs artifacts $RUN page.md --stage report\n",
        "  workflow-engine runs rerun $RUN --from-stage review # reuses outputs\n",
        "  workflow-engine dev                                 # executes it",
    )


def interrupted(url: str) -> Text:
    """Say that nothing is lost."""
    return Text.assemble(
        ("\nStopped. ", "title"),
        "The runs are in the database and go on with the next demo, or with\n",
        f"  workflow-engine dev --app workflow_engine.demo:reading --database-url {url}",
    )


def _describe(report: demo.Report, width: int) -> list[str]:
    outline, review = report.outline, report.review
    minutes, frequent = f"{review.minutes_to_read} min", ", ".join(report.frequent_words)
    return [one_line(outline.name, width // 3), f"{outline.words:,}", review.level, minutes, frequent]


def _facts(runs: Sequence[RunSnapshot], stages: Sequence[StageSnapshot], took: timedelta) -> Table:
    attempts, polls = sum(stage.attempt for stage in stages), sum(stage.polls for stage in stages)
    retried = attempts - sum(stage.attempt > 0 for stage in stages)
    spans = [stage.completed_at - stage.suspended_at for stage in stages if stage.completed_at and stage.suspended_at]
    suspended = format_duration(sum(spans, timedelta(0)))
    table = make_table("", "")
    table.show_header = False
    table.columns[0].style = "label"
    table.add_row(
        "ran",
        f"{format_count(len(runs), 'run')} with {attempts:,} attempts and {polls:,} polls in {format_duration(took)}",
    )
    table.add_row("retried", f"{format_count(retried, 'attempt')}: the dictionary turns every first request down")
    table.add_row("suspended", f"{suspended} in all, holding no worker, until the review desk answered")
    return table


def _count_by_group(runs: Sequence[RunSnapshot]) -> list[tuple[str, int, int]]:
    """Return for each group of stages its name, how many runs are past it, and how many are suspended in it."""
    counts = []
    for number, group in enumerate(_GROUPS, start=1):
        passed = sum(run.status is RunStatus.COMPLETED or run.current_group > number for run in runs)
        waiting = sum(run.status is RunStatus.SUSPENDED and run.current_group == number for run in runs)
        counts.append((" + ".join(group), passed, waiting))
    return counts


def _progress_bars(runs: Sequence[RunSnapshot], elapsed: timedelta) -> Group:
    table = make_table("", "", "", "")
    table.show_header = False
    for name, passed, waiting in _count_by_group(runs):
        done, parked = (round(count / len(runs) * _BAR) for count in (passed, passed + waiting))
        bar = Text.assemble(("━" * done, "ok"), ("━" * (parked - done), "waiting"), ("━" * (_BAR - parked), "idle"))
        table.add_row(name, bar, f"{passed}/{len(runs)}", Text(f"{waiting} suspended" if waiting else "", "waiting"))
    ended = sum(run.status.is_terminal for run in runs)
    line = Text.assemble(
        (f"{ended} of {format_count(len(runs), 'run')} ended", "title"), (f"  {format_duration(elapsed)}", "label")
    )
    return Group(table, Text(), line)
