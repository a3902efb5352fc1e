"""The database's time, which is the only time that decides anything."""

from __future__ import annotations

from sqlalchemy import BigInteger, ColumnElement, func


def now() -> ColumnElement[int]:
    """Return the expression for the database's present time, in milliseconds."""
    return func.workflow_now(type_=BigInteger)
