"""``python -m document_analysis``: analyse documents, in this process, with nothing to set up."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click
from rich.console import Console
from rich.text import Text

from document_analysis import report
from document_analysis.documents import Collection, UnreadableError, read_collection, reference_collection
from document_analysis.session import AnalysisSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from document_analysis.session import DocumentResult

EXIT_RUN_FAILED: Final = 1
EXIT_REFUSED: Final = 2
EXIT_INTERRUPTED: Final = 130
#: Seconds between two looks at how far the runs are.
LOOK_EVERY: Final = 0.25
#: Width of what is written to a file or a pipe.
PIPE_WIDTH: Final = 200


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("document_analysis_data"),
    show_default=True,
    help="Where the database is kept.",
)
@click.option(
    "--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Stages at the same time."
)
@click.option("--summaries", is_flag=True, help="Also show each document's summary.")
@click.option("--json", "as_json", is_flag=True, help="Write the reports as JSON instead of a table.")
def main(paths: tuple[Path, ...], directory: Path, concurrency: int, *, summaries: bool, as_json: bool) -> None:
    """Analyse documents: the files and folders named, or the language reference that comes with Python.

    Each document is a run: its text is extracted, then classified, searched for keywords and summarized at the same
    time, then measured by a (local stand-in for a) batch service that takes its time, then merged into a report.
    Database, worker and beat are part of this process; nothing has to be installed or started.
    """
    console = _console(sys.stderr if as_json else sys.stdout)
    try:
        collection = read_collection(paths) if paths else reference_collection()
        _make_directory(directory)
    except UnreadableError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_REFUSED)
    _introduce(console, collection, directory)
    session = AnalysisSession(directory)
    try:
        took = _run(session, collection, report.ProgressScreen(console), concurrency)
        results = session.results()
    except KeyboardInterrupt:
        console.print(report.interrupted(directory, program=_program()), soft_wrap=True)
        sys.exit(EXIT_INTERRUPTED)
    finally:
        session.runtime.close()
    if as_json:
        _print_json(results)
    else:
        console.print(report.report(results, collection, took=took, width=console.width, summaries=summaries))
    console.print(report.next_steps(directory, results, program=_program()), soft_wrap=True)
    if any(result.report is None for result in results):
        sys.exit(EXIT_RUN_FAILED)


def _run(
    session: AnalysisSession, collection: Collection, screen: report.ProgressScreen, concurrency: int
) -> timedelta:
    """Run everything and return how long it took."""
    begin = time.monotonic()
    session.create_runs(collection.documents)
    session.runtime.start(concurrency=concurrency)
    with screen:
        while True:
            progress, elapsed = session.progress(), timedelta(seconds=time.monotonic() - begin)
            screen.update(progress, elapsed)
            if progress.is_complete:
                return elapsed
            time.sleep(LOOK_EVERY)


def _introduce(console: Console, collection: Collection, directory: Path) -> None:
    """Say what is about to happen, and where."""
    documents = f"{report.format_count(len(collection.documents), 'document')} from {collection.origin}"
    skipped = f"; {report.format_count(len(collection.skipped), 'file')} left out" if collection.skipped else ""
    console.print(Text.assemble(("Document analysis", "bold"), f" of {documents}{skipped}"), soft_wrap=True)
    console.print(Text.assemble(("database  ", "dim"), str(directory / "analysis.db")), soft_wrap=True)
    console.print()


def _make_directory(directory: Path) -> None:
    """Make the directory, which git is told to leave alone."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not any(directory.iterdir()):
            (directory / ".gitignore").write_text("*\n", "utf-8")
    except OSError as error:
        raise UnreadableError(
            f"Cannot write to {directory}: {error.strerror}; choose another place with --directory"
        ) from None


def _print_json(results: Sequence[DocumentResult]) -> None:
    shown = [
        {
            "document": result.name,
            "run_id": result.run_id,
            "status": result.status,
            "report": result.report and result.report.model_dump(mode="json"),
        }
        for result in results
    ]
    click.echo(json.dumps(shown, indent=2))


def _console(stream: TextIO) -> Console:
    is_sized = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=stream,
        highlight=False,
        emoji=False,
        markup=False,
        width=None if is_sized else PIPE_WIDTH,
    )


def _program() -> str:
    """Return how to call the command line: its name where the shell finds it, else its path beside this Python."""
    name = "workflow-engine"
    return name if shutil.which(name) else str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    main()
