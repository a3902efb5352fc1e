"""Conditions of lists that a filter restricts: a value of None does not restrict anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.clock import instant_to_ms

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Column, ColumnElement, Table


def equal_to(table: Table, wanted: object, *names: str) -> list[ColumnElement[bool]]:
    """Return that columns equal the fields of the filter that have their names."""
    return [table.c[name] == value for name in names if (value := getattr(wanted, name)) is not None]


def within(column: Column[Any], first: datetime | None, end: datetime | None = None) -> list[ColumnElement[bool]]:
    """Return that an instant is ``first`` or later, and before ``end``."""
    conditions = [] if first is None else [column >= instant_to_ms(first)]
    return conditions if end is None else [*conditions, column < instant_to_ms(end)]
