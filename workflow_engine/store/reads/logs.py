"""The log of a run: reading it, and adding lines from outside any attempt.

Lines of an attempt are written with its report (``store.moves.attempt_reports``).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, func, literal, select, tuple_

from workflow_engine.arguments import MOST_ITEMS
from workflow_engine.clock import instant_to_ms
from workflow_engine.errors import InvalidRequestError
from workflow_engine.payloads.text import decode_json
from workflow_engine.store.connection.inserts import insert_or_ignore
from workflow_engine.store.reads.lineage import lineage
from workflow_engine.store.reads.snapshots import LogEntry, Page, from_row
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import logs, stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection, RowMapping

    from workflow_engine.store.connection.database import Database

#: The fence of lines that belong to no attempt; claims count from 1.
OUTSIDE = 0

_COLUMNS = (
    "stage_run_id", "fence", "line", "run_id", "stage_id", "attempt", "level", "message", "fields", "created_at",
)  # fmt: skip
#: Numbers with no more digits than their columns hold.
_CURSOR = re.compile(r"(\d{1,15})_([0-9a-z-]{1,36})_(\d{1,18})_(\d{1,9})", re.ASCII)
_POSITION = (logs.c.created_at, logs.c.stage_run_id, logs.c.fence, logs.c.line)


def list_logs(
    tx: Connection,
    run_id: str,
    *,
    stage_id: str | None = None,
    history: bool = False,
    after: str | None = None,
    limit: int = MOST_ITEMS,
) -> Page[LogEntry]:
    """Read a page of the log lines of a run's live stage runs, with ``history`` of all, the oldest first.

    Lines of the stage runs whose outputs a fork shares are included.

    Attempts write their lines in batches, so lines of parallel stages arrive out of order. A reader that follows a
    running run reads the last lines again, and drops those that it has by ``(stage_run_id, fence, line)``.

    Raises:
        InvalidRequestError: ``after`` is not a cursor of an earlier page.
    """
    members = lineage(run_id, history=history)
    query = select(logs).where(logs.c.stage_run_id.in_(select(members.c.origin))).order_by(*_POSITION).limit(limit + 1)
    if stage_id is not None:
        query = query.where(logs.c.stage_id == stage_id)
    if after is not None:
        query = query.where(
            tuple_(*_POSITION)
            > tuple_(
                *(literal(value, column.type) for value, column in zip(_parse_cursor(after), _POSITION, strict=True))
            )
        )
    return Page.of([_log_entry(row) for row in tx.execute(query).mappings()], limit, _cursor)


def append_log(database: Database, run_id: str, stage_id: str, *, level: str, message: str, fields: str = "{}") -> bool:
    """Add a line to the live stage run of a stage, from outside any attempt; return False without such a stage run.

    Durable when it returns. ``fields`` is the JSON text of an object.
    """
    while (place := database.read(lambda tx: _find_place(tx, run_id, stage_id))) is not None:
        if database.transact(_append_once(place, (level, message, fields))):
            return True
        # Another writer took the line number in between: ask for the next one.
    return False


@dataclass(frozen=True, slots=True)
class _Place:
    stage_run_id: str
    line: int
    created_at: int


def _find_place(tx: Connection, run_id: str, stage_id: str) -> _Place | None:
    last = select(func.max(logs.c.line)).where(logs.c.stage_run_id == stages.c.id, logs.c.fence == OUTSIDE)
    line = func.coalesce(last.scalar_subquery(), 0) + 1
    live = (stages.c.run_id == run_id, stages.c.stage_id == stage_id, stages.c.superseded_by.is_(None))
    row = tx.execute(select(stages.c.id, line, now()).where(*live)).first()
    return _Place(*row) if row else None


def _append_once(place: _Place, texts: tuple[str, str, str]) -> Callable[[Connection], bool]:
    """Return a function that writes a line at its place; called again after a lost answer, it finds the line there."""
    tries = itertools.count(1)
    values = (literal(OUTSIDE), literal(place.line), stages.c.run_id, stages.c.stage_id, stages.c.attempt)
    line = select(stages.c.id, *values, *map(literal, texts), literal(place.created_at, BigInteger))
    is_ours = (
        (logs.c.stage_run_id == place.stage_run_id)
        & (logs.c.fence == OUTSIDE)
        & (logs.c.line == place.line)
        & (logs.c.created_at == place.created_at)
        & (tuple_(logs.c.level, logs.c.message, logs.c.fields) == tuple_(*map(literal, texts)))
    )

    def write(tx: Connection) -> bool:
        is_first_try = next(tries) == 1
        is_there = stages.c.id == place.stage_run_id
        if tx.scalar(select(stages.c.id).where(is_there).with_for_update(read=True, key_share=True)) is None:
            return False  # it was deleted meanwhile; locked, so that it is not deleted before the line is there
        statement = insert_or_ignore(tx, logs).from_select(_COLUMNS, line.where(is_there))
        if tx.execute(statement).rowcount == 1:
            return True
        return not is_first_try and tx.scalar(select(logs.c.line).where(is_ours)) is not None

    return write


def _cursor(entry: LogEntry) -> str:
    return f"{instant_to_ms(entry.created_at)}_{entry.stage_run_id}_{entry.fence}_{entry.line}"


def _parse_cursor(cursor: str) -> tuple[int, str, int, int]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidRequestError(f"{cursor!r:.100} is not the cursor of a page of log lines")
    created_at, stage_run_id, fence, line = found.groups()
    return int(created_at), stage_run_id, int(fence), int(line)


def _log_entry(row: RowMapping) -> LogEntry:
    return from_row(LogEntry, row, fields=decode_json(row["fields"]))
