"""``workflow-engine demo``: the document analysis at work, in this process, with nothing to set up."""

from __future__ import annotations

import shutil
import sys
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from workflow_engine.cli.errors import EXIT_RUN_FAILED, CommandError
from workflow_engine.cli.screens.console import messages, output, print_json
from workflow_engine.cli.screens.formatting import format_count, one_line
from workflow_engine.clock import SystemClock

if TYPE_CHECKING:
    from rich.console import Console

    from workflow_engine.cli.screens.demo_screens import ProgressScreen
    from workflow_engine.demo.documents import Collection
    from workflow_engine.demo.session import DemoSession

NAME: Final = "workflow-engine"

_CLOCK: Final = SystemClock()
#: How often to look how far the runs are.
_LOOK: Final = timedelta(milliseconds=250)


@click.command(short_help="Analyse documents, to see the engine at work.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("workflow_engine_demo"),
    show_default=True,
    help="Where each demo makes a folder of its own.",
)
@click.option(
    "--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Stages at the same time."
)
@click.option("--summaries", is_flag=True, help="Also show each document's summary.")
@click.option("--json", "as_json", is_flag=True, help="Write the reports as JSON instead of a table.")
def demo(paths: tuple[Path, ...], directory: Path, concurrency: int, *, summaries: bool, as_json: bool) -> None:
    """Analyse documents: the files and folders named, or the language reference that comes with Python.

    Each document is a run: its text is extracted, classified, searched for keywords and summarized at the same time,
    measured by a (local stand-in for a) batch service that takes its time, and merged into a report. Database, worker
    and beat are part of this process; nothing has to be installed or started.
    """
    collection = _read(paths)
    database = _make_folder(directory) / "demo.db"
    console = messages() if as_json else output()
    _introduce(console, collection, database)
    from workflow_engine.cli.screens import demo_screens  # noqa: PLC0415 - a second of imports, after the first lines
    from workflow_engine.demo.session import DemoSession  # noqa: PLC0415 - same

    session = DemoSession(database, collection)
    try:
        took = _run(session, demo_screens.ProgressScreen(console), concurrency)
        results = session.results()
    except KeyboardInterrupt:
        console.print(demo_screens.interrupted(database, program=_program()), soft_wrap=True)
        raise
    finally:
        session.runtime.close()
    if as_json:
        print_json(
            [
                {"document": result.name, "run_id": result.run.id, "status": result.run.status, "report": result.report}
                for result in results
            ]
        )
    else:
        console.print(demo_screens.report(results, collection, took=took, width=console.width, summaries=summaries))
    console.print(demo_screens.next_steps(database, results, program=_program()), soft_wrap=True)
    if any(result.report is None for result in results):
        click.get_current_context().exit(EXIT_RUN_FAILED)


def _run(session: DemoSession, screen: ProgressScreen, concurrency: int) -> timedelta:
    """Run everything and return how long it took."""
    begin = _CLOCK.monotonic()
    session.create_runs()
    session.runtime.start(concurrency=concurrency)
    try:
        with screen:
            while True:
                progress = session.progress()
                screen.update(progress, timedelta(seconds=_CLOCK.monotonic() - begin))
                if progress.is_complete:
                    break
                _CLOCK.sleep(_LOOK)
        return timedelta(seconds=_CLOCK.monotonic() - begin)
    finally:
        session.runtime.stop()


def _introduce(console: Console, collection: Collection, database: Path) -> None:
    """Say what is about to happen, and where."""
    documents = f"{format_count(len(collection.documents), 'document')} from {one_line(collection.origin)}"
    skipped = f"; {format_count(len(collection.skipped), 'file')} left out" if collection.skipped else ""
    console.print(Text.assemble(("Document analysis", "title"), f" of {documents}{skipped}"))
    console.print(Text.assemble(("database  ", "label"), str(database)), soft_wrap=True)
    console.print()


def _read(paths: tuple[Path, ...]) -> Collection:
    from workflow_engine.demo.documents import read_collection, reference_collection  # noqa: PLC0415 - `--help` is quick

    return read_collection(paths) if paths else reference_collection()


def _make_folder(parent: Path) -> Path:
    """Make a folder for this demo below ``parent``, which git is told to leave alone."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        ignore = parent / ".gitignore"
        if not any(parent.iterdir()):
            ignore.write_text("*\n", "utf-8")
        name = _CLOCK.now().astimezone().strftime("%Y%m%d-%H%M%S")
        for number in count(1):
            folder = parent / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise CommandError(
            f"Cannot write to {parent}: {error.strerror}; choose another place with --directory"
        ) from None
    raise AssertionError("unreachable")


def _program() -> str:
    """Return how to call this program: its name where that is found, else the path it was started by."""
    return NAME if shutil.which(NAME) else sys.argv[0]
