"""The schema that the revisions make is the one that tables.py describes, on both databases."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from workflow_engine.errors import MigrationRequiredError, StoreError
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema
from workflow_engine.store.schema.tables import metadata
from workflow_engine.testing.kit import TurnedClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workflow_engine.testing.services import PostgresServer

_MIGRATE = "import sys; import workflow_engine.store.connection.database as database, workflow_engine.store.schema.revisions as schema; "
_MIGRATE += "sys.stdin.readline(); print(schema.upgrade(database.Database(sys.argv[1])))"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create_database()
        yield url
        server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.close()


def test_an_empty_database_is_brought_to_the_newest_revision_once(empty: Database) -> None:
    first = schema.upgrade(empty)
    second = schema.upgrade(empty)

    assert (first, second) == (True, False)
    assert schema.current_revision(empty) == schema.HEAD
    schema.check(empty)


def test_head_is_the_newest_revision_in_the_package() -> None:
    scripts = ScriptDirectory.from_config(schema._alembic_config())

    assert scripts.get_current_head() == schema.HEAD


def test_alembic_sees_no_drift_between_the_revisions_and_the_tables(database: Database) -> None:
    assert schema.find_drift(database) == []


def test_drift_is_seen(database: Database) -> None:
    database.transact(lambda tx: tx.execute(sa.text("ALTER TABLE workflow_outputs DROP COLUMN created_at")))

    [difference] = schema.find_drift(database)

    assert "created_at" in difference


def test_the_catalog_is_the_one_that_the_tables_would_create(empty: Database) -> None:
    empty.transact(metadata.create_all)
    created = empty.read(_catalog)
    empty.transact(metadata.drop_all)

    schema.upgrade(empty)
    migrated = empty.read(_catalog)

    assert migrated == created
    assert len(created) > len(metadata.tables)


def test_the_database_tells_the_time_in_milliseconds(database: Database) -> None:
    first, second = (database.read(lambda tx: tx.scalar(sa.select(sa.func.workflow_now()))) for _ in range(2))

    assert 1_700_000_000_000 < first <= second < first + 60_000


def test_time_goes_on_inside_a_transaction_of_postgres(postgres_url: str) -> None:
    database = Database(postgres_url)
    schema.upgrade(database)

    def tell_twice(tx: sa.Connection) -> tuple[int, int]:
        first = tx.scalar(sa.select(sa.func.workflow_now()))
        tx.execute(sa.text("SELECT pg_sleep(0.02)"))
        return first, tx.scalar(sa.select(sa.func.workflow_now()))

    first, second = database.transact(tell_twice)
    database.close()

    assert second >= first + 20


def test_tables_and_migrations_of_the_host_are_left_alone(empty: Database) -> None:
    host = "CREATE TABLE workflow_host (id int)", "CREATE TABLE alembic_version (version_num varchar(32))"
    empty.transact(lambda tx: [tx.execute(sa.text(statement)) for statement in host])
    empty.transact(lambda tx: tx.execute(sa.text("INSERT INTO alembic_version VALUES ('theirs')")))

    schema.upgrade(empty)

    assert empty.read(lambda tx: tx.scalar(sa.text("SELECT version_num FROM alembic_version"))) == "theirs"
    assert empty.read(lambda tx: sa.inspect(tx).has_table("workflow_host"))
    assert schema.find_drift(empty) == []


def test_a_table_of_somebody_else_under_one_of_our_names_is_named_and_kept(empty: Database) -> None:
    empty.transact(lambda tx: tx.execute(sa.text("CREATE TABLE workflow_runs (theirs int)")))

    with pytest.raises(StoreError, match=r"not workflow_engine's own .*: workflow_runs;"):
        schema.upgrade(empty)

    assert empty.read(lambda tx: sa.inspect(tx).get_table_names()) == ["workflow_runs"]


def test_a_missing_schema_is_reported_with_the_command_that_makes_it(empty: Database) -> None:
    with pytest.raises(
        MigrationRequiredError, match="no tables of workflow_engine yet; run `workflow-engine db upgrade`"
    ):
        schema.check(empty)


def test_an_older_schema_is_reported_with_both_revisions(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "HEAD", "0009")

    with pytest.raises(
        MigrationRequiredError, match=r"at revision 0002, this version needs 0009; run `workflow-engine"
    ):
        schema.check(database)


@pytest.mark.parametrize("action", [schema.check, schema.upgrade])
def test_a_schema_that_a_newer_version_changed_is_refused_and_left_alone(database: Database, action: object) -> None:
    _pretend(database, at="9999", required="9999")

    with pytest.raises(
        MigrationRequiredError, match="at revision 9999, which this version of workflow_engine does not know"
    ):
        action(database)

    assert schema.current_revision(database) == "9999"


def test_a_schema_that_a_newer_version_only_expanded_is_accepted_and_left_alone(database: Database) -> None:
    _pretend(database, at="9999", required="0001")

    schema.check(database)

    assert schema.upgrade(database) is False
    assert schema.current_revision(database) == "9999"


def test_the_schema_of_release_0_1_0_is_brought_up_to_date_and_still_says_what_that_release_reads(
    empty: Database,
) -> None:
    _make_schema_of_0_1_0(empty)
    assert schema.current_revision(empty) == "0001"

    assert schema.upgrade(empty) is True

    assert schema.current_revision(empty) == schema.HEAD
    assert _read_versions(empty, "workflow_engine_version") == ["0001"]
    assert schema.find_drift(empty) == []


def _make_schema_of_0_1_0(database: Database) -> None:
    def make(connection: sa.Connection) -> None:
        command.upgrade(schema._alembic_config(connection), "0001")
        connection.execute(sa.text("DROP TABLE workflow_engine_revision"))
        connection.execute(sa.text("CREATE TABLE workflow_engine_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(sa.text("INSERT INTO workflow_engine_version VALUES ('0001')"))

    database.transact(make)


def _pretend(database: Database, *, at: str, required: str) -> None:
    for table, revision in (("workflow_engine_revision", at), ("workflow_engine_version", required)):
        statement = sa.text(f"UPDATE {table} SET version_num = :revision")
        database.transact(lambda tx, s=statement, r=revision: tx.execute(s, {"revision": r}))


def _read_versions(database: Database, table: str) -> list[str]:
    return database.read(lambda tx: list(tx.scalars(sa.text(f"SELECT version_num FROM {table}"))))


def test_a_message_about_the_schema_shows_no_password(postgres_url: str) -> None:
    database = Database(postgres_url)

    with pytest.raises(MigrationRequiredError) as caught:
        schema.check(database)
    database.close()

    assert str(database.url.password) not in str(caught.value)


def test_a_sqlite_file_brings_itself_up_to_date_if_allowed_and_postgres_never(empty: Database) -> None:
    if empty.is_postgres:
        with pytest.raises(MigrationRequiredError):
            schema.ensure(empty, auto_upgrade_sqlite=True)
    else:
        with pytest.raises(MigrationRequiredError):
            schema.ensure(empty, auto_upgrade_sqlite=False)
        schema.ensure(empty, auto_upgrade_sqlite=True)
        schema.check(empty)


def test_a_database_in_memory_can_be_migrated() -> None:
    database = Database("sqlite://")

    schema.upgrade(database)

    assert schema.find_drift(database) == []
    database.close()


def test_foreign_keys_hold_again_after_a_migration_of_sqlite() -> None:
    database = Database("sqlite://")

    schema.upgrade(database)

    assert database.read(lambda tx: tx.scalar(sa.text("PRAGMA foreign_keys"))) == 1
    database.close()


def test_when_several_processes_migrate_at_once_one_does_it_and_the_others_wait(empty_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _MIGRATE, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]

    assert sorted(out.strip() for out, _ in answers) == ["False", "False", "False", "True"], answers


def test_a_migration_that_must_wait_for_a_long_query_lets_others_through_meanwhile(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_LOCK_TIMEOUT_MS", 200)
    migrating, working = Database(postgres_url), Database(postgres_url)
    _make_schema_of_0_1_0(working)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(schema.upgrade(migrating)))
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'workflow_stages'::regclass"

    with working.pool.connect() as dump:
        dump.execute(sa.text("SELECT count(*) FROM workflow_stages"))
        thread.start()
        while not working.read(lambda tx: tx.scalar(sa.text(waits))):
            pass
        seen = working.read(lambda tx: tx.scalar(sa.text("SELECT count(*) FROM workflow_stages")))
    thread.join(60)
    migrating.close()
    working.close()

    assert (seen, answers) == (0, [True])


def test_a_sqlite_file_that_is_locked_for_a_moment_is_migrated_all_the_same(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'some.db'}", clock=TurnedClock())
    sa.event.listen(database.pool, "connect", lambda driver, _: driver.execute("PRAGMA busy_timeout = 0"))
    assert schema.current_revision(database) is None
    with contextlib.closing(sqlite3.connect(tmp_path / "some.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        database.clock.sleep = lambda _: other.rollback()

        assert schema.upgrade(database) is True

    database.close()


def _catalog(connection: sa.Connection) -> set[tuple[str, ...]]:
    """Everything that was created, in the database's own words."""
    if connection.dialect.name == "sqlite":
        query = "SELECT type, tbl_name, name, sql FROM sqlite_master WHERE tbl_name NOT LIKE 'workflow_engine_%'"
        return {(row[0], row[1], row[2], _words(row[3])) for row in connection.execute(sa.text(query))}
    queries = (
        (
            "SELECT 'column', table_name::text, column_name::text, concat_ws(' ', data_type, character_maximum_length, "
            "is_nullable, column_default) FROM information_schema.columns WHERE table_schema = 'public'"
        ),
        (
            "SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = 'public'::regnamespace"
        ),
        "SELECT 'index', tablename::text, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    )
    found = {tuple(row) for query in queries for row in connection.execute(sa.text(query))}
    return {row for row in found if not row[1].startswith("workflow_engine_")}


def _words(statement: str | None) -> str:
    """Drop what differs in spelling only: white space, and the order of the clauses after the columns."""
    text = " ".join((statement or "").split())
    head, _, body = text.partition("(")
    return head + "(" + ", ".join(sorted(part.strip(" )") for part in body.split(",")))
