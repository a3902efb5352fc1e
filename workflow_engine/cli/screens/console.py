"""The screen: where output goes, how wide it is, and what each status looks like."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import pydantic_core
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow_engine.lifecycle import RunStatus, StageStatus

#: Width of what is written to a file or a pipe: no id or message is cut short to fit an 80-column terminal.
_PIPE_WIDTH: Final = 200
#: The flexible column of a table is at least this wide.
_NARROWEST: Final = 8
#: Spaces between two columns of a table.
COLUMN_GAP: Final = 2

THEME: Final = Theme(
    {
        "label": "dim",
        "id": "cyan",
        "ok": "green",
        "bad": "red",
        "busy": "blue",
        "waiting": "yellow",
        "idle": "bright_black",
        "title": "bold",
        "heading": "bold",
    }
)
_STATUS_STYLES: Final = {
    "PENDING": ("○", "idle"),
    "RUNNING": ("▶", "busy"),
    "SUSPENDED": ("◷", "waiting"),
    "COMPLETED": ("✓", "ok"),
    "FAILED": ("✗", "bad"),
    "CANCELLED": ("⊘", "idle"),
    "SKIPPED": ("↷", "idle"),
}


def output() -> Console:
    """Return the console of standard output."""
    return _console(stderr=False)


def messages() -> Console:
    """Return the console of standard error: for remarks that are no part of a command's output."""
    return _console(stderr=True)


def status_text(status: RunStatus | StageStatus | str) -> Text:
    """Return a status with its sign and colour."""
    sign, style = _STATUS_STYLES[str(status)]
    return Text(f"{sign} {status}", style=style)


def paused_text() -> Text:
    """Return the sign of a paused run."""
    return Text("‖ paused", style="waiting")


def status_style(status: RunStatus | StageStatus | str) -> str:
    """Return the colour of a status."""
    return _STATUS_STYLES[str(status)][1]


def make_table(*headers: str) -> Table:
    """Return an empty table in the house style: no lines but the one below the header."""
    table = Table(box=None, pad_edge=False, padding=(0, COLUMN_GAP, 0, 0), header_style="label", show_edge=False)
    for header in headers:
        table.add_column(header)
    return table


def fitted_table(headers: Sequence[str], rows: Sequence[Sequence[Text]], *, width: int, flexible: int) -> Table:
    """Return a table of one line for each row, no wider than ``width``: the flexible column is cut to fit."""
    table = make_table(*headers)
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for row in rows:
        table.add_row(*row)
    taken = sum(
        max([len(header), *(row[index].cell_len for row in rows)]) + COLUMN_GAP
        for index, header in enumerate(headers)
        if index != flexible
    )
    table.columns[flexible].max_width = max(_NARROWEST, width - taken)
    return table


def print_json(value: Any) -> None:
    """Write a value as JSON: indented, ASCII, never wrapped, the same on a terminal and in a pipe."""
    plain = pydantic_core.to_jsonable_python(value, timedelta_mode="float", fallback=str)
    sys.stdout.write(json.dumps(plain, indent=2) + "\n")


def print_json_line(value: Any) -> None:
    """Write a value as one line of JSON, at once."""
    plain = pydantic_core.to_jsonable_python(value, timedelta_mode="float", fallback=str)
    sys.stdout.write(json.dumps(plain) + "\n")
    sys.stdout.flush()


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    is_sized = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=stream,
        theme=THEME,
        highlight=False,
        emoji=False,
        markup=False,
        width=None if is_sized else _PIPE_WIDTH,
    )
