"""What may be said of an error of a database: its class and SQLSTATE, never the texts that come with it.

A server's message quotes rows ("Failing row contains …"), SQLAlchemy's the statement and its parameters: inputs,
outputs and secrets, which do not belong into recorded errors, events and logs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy.exc import InterfaceError, OperationalError, StatementError

from workflow_engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


def summarize(error: BaseException) -> str:
    """Return class and SQLSTATE of a database error.

    What carries no data is kept: why no connection could be had, and SQLite's messages, which name tables and columns.
    """
    origin = (error.orig or error) if isinstance(error, StatementError) else error
    name = type(origin).__name__
    state = _sqlstate(origin)
    if state is not None:
        return f"{name} (SQLSTATE {state})"
    is_harmless = _is_of_sqlite(origin) or (
        isinstance(error, OperationalError | InterfaceError) and origin is not error
    )
    return f"{name}: {_first_line(_text(origin))}" if is_harmless else name


def hide_database_texts(text: str, error: BaseException) -> str:
    """Return ``text``, a message or traceback of ``error``, with a summary in place of each database error's message.

    That covers errors that the database error caused, and whose own message repeats it.
    """
    summaries = {message: summarize(found) for found in _database_errors(error) for message in _messages(found)}
    if not summaries:
        return text
    messages = sorted(summaries, key=len, reverse=True)  # a message may be part of another
    # A traceback indents the lines of exceptions that belong to a group.
    patterns = (r"\n[ |]*".join(map(re.escape, message.splitlines())) for message in messages)
    whole = "|".join(f"({pattern})" for pattern in patterns)
    return re.sub(whole, lambda match: summaries[messages[(match.lastindex or 1) - 1]], text)


def summarize_any(error: BaseException) -> str:
    """Return class and message of any error, without the texts of database errors."""
    return f"{type(error).__name__}: {hide_database_texts(_text(error), error)}"


def loggable(error: BaseException) -> BaseException:
    """Return what may be logged of an error with its traceback: itself, or a stand-in without a database's texts."""
    if next(_database_errors(error), None) is None:
        return error
    return StoreError(summarize_any(error)).with_traceback(error.__traceback__)


def _database_errors(error: BaseException) -> Iterator[BaseException]:
    """Yield the database errors among an error, what it was raised from or during, and the members of groups."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        found = pending.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, StatementError) or _sqlstate(found) is not None:
            yield found
        pending += [found.__cause__, found.__context__]
        pending += found.exceptions if isinstance(found, BaseExceptionGroup) else []


def _messages(error: BaseException) -> set[str]:
    """Return the texts as ``str`` gives them, and as they are within a ``repr``."""
    origin = error.orig if isinstance(error, StatementError) else None
    texts = {_text(one).strip() for one in (error, origin) if one is not None} - {""}
    return texts | {repr(text)[1:-1] for text in texts}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception whose __str__ raises
        return "(its message cannot be shown)"


def _sqlstate(error: BaseException) -> str | None:
    """Return what psycopg2 calls ``pgcode``, and psycopg 3 and asyncpg ``sqlstate``."""
    try:
        state = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
    except Exception:  # noqa: BLE001 - an exception whose __getattr__ raises
        return None
    return state if isinstance(state, str) else None


def _is_of_sqlite(error: BaseException) -> bool:
    return type(error).__module__ == "sqlite3"


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
