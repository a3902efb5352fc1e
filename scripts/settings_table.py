"""Print the settings as a Markdown table, from the classes that read them; README.md has it between its marks.

``python scripts/settings_table.py`` prints it, with ``--write`` it goes into README.md.
"""

from __future__ import annotations

import inspect
import re
import sys
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow_engine.settings import Settings
from workflow_engine.worker.worker_options import WorkerOptions

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- settings: python scripts/settings_table.py --write -->", "<!-- end of settings -->"


def settings_table() -> str:
    """Return the table: each variable, its default and what it is for."""
    rows = [row for source in (Settings, WorkerOptions) for row in _rows(source)]
    return "\n".join(["| `WORKFLOW_ENGINE_…` | default | meaning |", "|---|---|---|", *rows])


def with_table(text: str) -> str:
    """Return the text of a README with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{settings_table()}\n{END}{after}"


def _rows(source: type[BaseSettings]) -> list[str]:
    meanings = _meanings(source)
    return [
        f"| `{name.upper()}` | {_default(field.default)} | {meanings[name]} |"
        for name, field in source.model_fields.items()
    ]


def _meanings(source: type[BaseSettings]) -> dict[str, str]:
    """Return what the ``#:`` comment above each field says."""
    found = re.findall(r"((?:^    #: .*\n)+)    (\w+):", inspect.getsource(source), re.MULTILINE)
    return {
        name: " ".join(line.strip().removeprefix("#: ") for line in lines.splitlines()).replace("``", "`")
        for lines, name in found
    }


def _default(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value // 2**20} MiB" if value >= 2**20 else f"{value:,}"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    for length, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds * 1000:g} ms"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        README.write_text(with_table(README.read_text("utf-8")), "utf-8")
    else:
        sys.stdout.write(settings_table() + "\n")
