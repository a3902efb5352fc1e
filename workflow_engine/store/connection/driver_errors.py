"""Kinds of driver errors: the database is away, it is busy, or it refuses the statement itself.

Decided here for both databases, because the driver's classes do not tell: a primary that became a standby raises an
``InternalError``, a broken connection anything from ``DatabaseError`` to ``InterfaceError``.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from types import TracebackType

#: SQLSTATE classes and codes after which the connection is of no use for now: connection lost (08), read-only since a
#: failover or for maintenance (25006), stuck in a transaction (25P02, 25P03), resources (53), shutdown and start (57P),
#: the system beneath (58).
_AWAY_STATES: Final = ("08", "25006", "25P02", "25P03", "53", "57P", "58")
#: Serialization, deadlock, lock timeout: the connection is sound, and the same call may succeed on it.
_BUSY_STATES: Final = ("40", "55P03")
#: A statement was cancelled: by its time limit, or by an administrator.
_CANCELLED: Final = "57014"

_AWAY_CODES: Final = {
    sqlite3.SQLITE_PERM,  # these four: a file system that is gone, full, or read-only since an error of its disk
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PROTOCOL,  # a race for the write-ahead log
}
_BUSY_CODES: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

#: Of psycopg2's classes, those that a broken connection is reported with when the server said nothing.
_CONNECTION_ERRORS: Final = {"DatabaseError", "InterfaceError", "InternalError", "OperationalError"}


#: Modules that make the statements of every operation; no operation is named after their functions.
MACHINERY: Final = (__package__, "workflow_engine.store.moves.locked_run")


def is_away(error: BaseException) -> bool:
    """Tell whether the connection should be dropped, and the same call be made again on a new one."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or is_away(error.orig or error)
    code = _sqlite_code(error)
    if code is not None:
        return code in _AWAY_CODES
    state = _state(error)
    if state is not None:
        return state.startswith(_AWAY_STATES)
    return type(error).__module__ == "psycopg2" and type(error).__name__ in _CONNECTION_ERRORS


def is_busy(error: BaseException) -> bool:
    """Tell whether the same call may succeed when it is made again on the same connection."""
    if isinstance(error, DBAPIError):
        return is_busy(error.orig or error)
    state = _state(error)
    return _sqlite_code(error) in _BUSY_CODES or (state is not None and state.startswith(_BUSY_STATES))


def was_cancelled(error: BaseException) -> bool:
    """Tell whether the server cancelled the statement because it took too long; it has changed nothing then."""
    return _state(getattr(error, "orig", error)) == _CANCELLED


def refuses_writes(error: BaseException) -> bool:
    """Tell whether the server answers and reads, but does not write."""
    return _state(getattr(error, "orig", error)) == "25006"


def operation_of(trace: TracebackType | None) -> str:
    """Name the innermost function of this package that asked for the statement."""
    name = "a statement"
    while trace is not None:
        code, module = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__"))
        if module.startswith("workflow_engine.") and not module.startswith(MACHINERY):
            name = code.co_qualname.partition(".<locals>")[0].lstrip("_")
        trace = trace.tb_next
    return name


def _state(error: object) -> str | None:
    return getattr(error, "pgcode", None)


def _sqlite_code(error: BaseException) -> int | None:
    """Return the primary result code of an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
