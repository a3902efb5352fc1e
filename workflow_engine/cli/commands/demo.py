"""``workflow-engine demo``: a small workflow at work over text files, in this process, with nothing to set up."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from workflow_engine.arguments import MOST_ITEMS
from workflow_engine.cli.errors import EXIT_RUN_FAILED, CommandError
from workflow_engine.cli.screens.console import output
from workflow_engine.clock import SystemClock
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.cli.screens.demo_screens import ProgressScreen
    from workflow_engine.facade.runtime import WorkflowRuntime
    from workflow_engine.store.reads.snapshots import RunSnapshot

#: A larger file is a data set, not a text.
_MOST_BYTES: Final = 2**20
#: How often to look how far the runs are.
_LOOK: Final = timedelta(milliseconds=200)
_CLOCK: Final = SystemClock()


@click.command(short_help="See a small workflow at work over text files.")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--database",
    type=click.Path(path_type=Path),
    default=Path("workflow_engine_demo.db"),
    help="The SQLite file that records the runs.",
)
def demo(path: Path | None, database: Path) -> None:
    """Run a small workflow over a text file, or over those of a folder; without PATH, over Python's language reference.

    Two stages run at the same time, one of them is retried, the next waits for an answer from outside, the last merges.
    Database, broker, worker and beat are part of this process; nothing has to be installed or started.
    """
    texts = _read(path) if path else _language_reference()
    _check_writable(database)
    from workflow_engine.cli.screens import demo_screens  # noqa: PLC0415 - `--help` is quick
    from workflow_engine.demo import reading  # noqa: PLC0415 - same
    from workflow_engine.facade.runtime import WorkflowRuntime  # noqa: PLC0415 - same

    # The report at the end tells of the retries; without a handler, Python would write their tracebacks to the screen.
    logging.getLogger("workflow_engine").addHandler(logging.NullHandler())
    console, url = output(), f"sqlite:///{database}"
    console.print(demo_screens.introduction(len(texts), path, url, width=console.width), soft_wrap=True)
    sweep_interval = timedelta(seconds=1)
    with WorkflowRuntime([reading], database_url=url, broker_url="memory://", sweep_interval=sweep_interval) as runtime:
        try:
            took, runs = _run(runtime, texts, demo_screens.ProgressScreen(console))
        except KeyboardInterrupt:
            console.print(demo_screens.interrupted(url), soft_wrap=True)
            raise
        stages = [stage for run in runs for stage in runtime.list_stages(run.id)]
        reports = [runtime.get_output(run.id) for run in runs if run.status is RunStatus.COMPLETED]
    console.print(demo_screens.summary(reports, runs, stages, took, width=console.width))
    console.print(demo_screens.next_steps(url, runs[-1].id), soft_wrap=True)
    if len(reports) < len(runs):
        click.get_current_context().exit(EXIT_RUN_FAILED)


def _run(
    runtime: WorkflowRuntime, texts: Mapping[str, str], screen: ProgressScreen
) -> tuple[timedelta, list[RunSnapshot]]:
    """Create a run for each text, show how far the runs are until they have ended, and return them."""
    begin, demo_id = _CLOCK.monotonic(), new_id()
    for name, text in texts.items():
        runtime.create_run("reading", {"name": name, "text": text}, metadata={"demo": demo_id, "document": name})
    runtime.start()
    with screen:
        while True:
            runs = _list_runs(runtime, demo_id)
            elapsed = timedelta(seconds=_CLOCK.monotonic() - begin)
            screen.update(runs, elapsed)
            if all(run.status.is_terminal for run in runs):
                return elapsed, runs
            _CLOCK.sleep(_LOOK)


def _list_runs(runtime: WorkflowRuntime, demo_id: str) -> list[RunSnapshot]:
    """Return the runs of one demo, the oldest first; earlier ones in the same database go on beside them."""
    runs: list[RunSnapshot] = []
    cursor = None
    while True:
        page = runtime.list_runs(metadata={"demo": demo_id}, limit=MOST_ITEMS, cursor=cursor)
        runs += page.items
        cursor = page.next_cursor
        if cursor is None:
            return runs[::-1]


def _language_reference() -> dict[str, str]:
    from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte

    return dict(sorted(topics.items()))


def _read(path: Path) -> dict[str, str]:
    """Return the texts of a file or folder by their names; hidden files and files that are no text are left out."""
    if not path.is_dir():
        return {_printable(path.name): _read_text(path)}
    texts: dict[str, str] = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            with suppress(CommandError):
                texts[_printable(name)] = _read_text(file)
    if not texts:
        raise CommandError(f"No text files in {_printable(path)}")
    return texts


def _read_text(file: Path) -> str:
    """Return the text of a file.

    Raises:
        CommandError: The file is missing, empty, too large, or no UTF-8 text.
    """
    try:
        data = file.read_bytes() if file.stat().st_size <= _MOST_BYTES else None
    except OSError as error:
        raise CommandError(f"Cannot read {_printable(file)}: {error.strerror}") from None
    if data is None:
        raise CommandError(f"{_printable(file)} is larger than {_MOST_BYTES // 2**20} MiB")
    with suppress(UnicodeDecodeError):
        text = data.decode("utf-8-sig")
        if text.strip() and "\0" not in text:
            return text
    raise CommandError(f"{_printable(file)} is {'no UTF-8 text' if data.strip() else 'empty'}")


def _printable(path: Path | str) -> str:
    """Return a path as text that any terminal takes, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", errors="replace")


def _check_writable(database: Path) -> None:
    """Refuse a place that cannot be written to: the engine would wait for it to be writable again."""
    try:
        database.open("ab").close()
    except OSError as error:
        raise CommandError(f"Cannot write to {database}: {error.strerror}; name another with --database") from None
