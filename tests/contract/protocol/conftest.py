"""Databases with a frozen clock. The modules beside this file are helpers that the tests import by name."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent))

from protocol_world import FROZEN_POSTGRES_CLOCK, FaultyDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow_engine.testing.services import PostgresServer


@pytest.fixture(scope="session")
def faulty_sqlite(sqlite_template: Path) -> Iterator[FaultyDatabase]:
    """An in-memory database with the schema."""
    database = FaultyDatabase("sqlite://")
    with database.pool.connect() as connection, sqlite3.connect(sqlite_template) as template:
        template.backup(connection.connection.driver_connection)
    template.close()
    yield database
    database.close()


@pytest.fixture(scope="session")
def faulty_postgres(postgres_server: PostgresServer, migrated_postgres: str) -> Iterator[FaultyDatabase]:
    """A PostgreSQL database with the schema whose clock is a table."""
    url = postgres_server.create_database(template=migrated_postgres)
    database = FaultyDatabase(url)
    database.transact(lambda tx: [tx.execute(sa.text(statement)) for statement in FROZEN_POSTGRES_CLOCK])
    yield database
    database.close()
    postgres_server.drop_database(url.rpartition("/")[2])
