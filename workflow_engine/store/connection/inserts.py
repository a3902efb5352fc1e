"""INSERT with an ON CONFLICT clause, which each kind of database has in a dialect of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection


def insert_into(tx: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT into the table that takes ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)


def insert_or_ignore(tx: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT into the table that passes over rows whose key is taken."""
    return insert_into(tx, table).on_conflict_do_nothing()
