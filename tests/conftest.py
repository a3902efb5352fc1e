"""Every test carries the marker of its tier, which is the folder it lives in; the long ones are begun first.

The examples have tests of their own.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow_engine.testing.services import PostgresServer

TESTS = Path(__file__).parent
TIERS = {"unit", "contract", "integration", "acceptance", "typing", "faults", "benchmarks"}

# A shared machine stalls now and then: an example that takes long is no failure, and pytest-timeout ends what hangs.
hypothesis.settings.register_profile("workflow_engine", deadline=None, print_blob=True)
hypothesis.settings.load_profile("workflow_engine")

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(TESTS.parent)
        _share_out(item, str(path))
        if not item.path.is_relative_to(TESTS):
            continue
        tier = path.parts[1]
        if tier not in TIERS:
            raise pytest.UsageError(f"{item.nodeid} belongs to no tier; the folders are {', '.join(sorted(TIERS))}")
        item.add_marker(tier)
    items.sort(key=_seconds, reverse=True)


def _share_out(item: pytest.Item, file: str) -> None:
    """Let a process of ``--dist=loadgroup`` take a file, but a long test alone: no process ends long after the others."""
    if not (_seconds(item) or item.get_closest_marker("xdist_group")):
        item.add_marker(pytest.mark.xdist_group(file))


def _seconds(item: pytest.Item) -> int:
    marker = item.get_closest_marker("long")
    return marker.args[0] if marker else 0


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, to be copied."""
    path = tmp_path_factory.mktemp("sqlite-template") / "workflow.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """Name of a PostgreSQL database with the schema, to be copied."""
    url = postgres_server.create_database()
    _migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database with the schema, of this test alone; the test runs once on each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "workflow.db")
        yield f"sqlite:///{tmp_path / 'workflow.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create_database(template=request.getfixturevalue("migrated_postgres"))
        yield url
        server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the schema, of this test alone; the test runs once on each kind."""
    opened = Database(database_url)
    yield opened
    opened.close()


def _migrate(url: str) -> None:
    database = Database(url)
    schema.upgrade(database)
    database.close()
