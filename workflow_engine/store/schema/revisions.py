"""The revision of the schema: read cheaply, checked at start, brought up to date by Alembic revisions in the package.

A SQLite file may be upgraded at start. PostgreSQL is upgraded by ``workflow-engine db upgrade`` only, because its owner
decides when tables are locked. Host applications may keep their
own tables, and their own Alembic history, in the same database.

Releases live side by side during a rolling deploy. A revision that only expands (new tables, nullable columns, columns
with defaults, indexes, functions) says ``expands_only = True``: releases that do not know it go on working. Two
tables hold both facts: ``workflow_engine_revision`` the revision of the schema, ``workflow_engine_version`` the newest
revision that does more than expand, which a release must know in order to use the database.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from workflow_engine.errors import MigrationRequiredError, StoreError
from workflow_engine.store.connection.call_limits import UNLIMITED
from workflow_engine.store.schema.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from workflow_engine.store.connection.database import Database

#: The revision that this version of the package needs; a test holds it to the newest file in ``migrations/versions``.
HEAD: Final = "0002"
#: Named in every error that it repairs.
UPGRADE_COMMAND: Final = "workflow-engine db upgrade"

#: Alembic's own: the revision that the schema is at.
_REVISION_TABLE: Final = "workflow_engine_revision"
#: The revision that a release must know to use the schema. Release 0.1.0 has this table only, and reads it as the revision.
_REQUIRED_TABLE: Final = "workflow_engine_version"
#: Any constant will do that others do not use: the letters of "workflow".
_ADVISORY_LOCK: Final = 0x776F726B666C6F77
#: How long a migration may wait for a table, and keep everybody else waiting.
_LOCK_TIMEOUT_MS: Final = 3000
#: Alembic keeps what it works on in globals of a module, so threads that migrate different databases take turns.
_alembic_turn: Final = threading.Lock()


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in metadata.tables


def _default_differs(*values: Any) -> bool | None:
    """Return False for equal defaults, of which Alembic doubts ``''`` on SQLite; None leaves the others to Alembic."""
    _context, _inspected, _column, found, _default, wanted = values
    return False if (found or "").strip("()'") == (wanted or "").strip("()'") else None


#: How Alembic is set up, for upgrades and for comparisons alike.
MIGRATION_OPTIONS: Final[dict[str, Any]] = {
    "target_metadata": metadata,
    "version_table": _REVISION_TABLE,
    "include_name": _is_ours,
    "render_as_batch": True,
    "compare_type": True,
    "compare_server_default": _default_differs,
}


def current_revision(database: Database) -> str | None:
    """Return the revision that the database is at, or None when it has no tables of ours."""
    return database.read(_read_revision)


def check(database: Database) -> None:
    """Make sure that this version can use the schema; one cheap query when it is at ``HEAD``.

    A schema that newer versions have only expanded is accepted, so that a worker of this version can restart while
    a newer version is being deployed.

    Raises:
        MigrationRequiredError: It cannot; the message names the command that repairs it.
    """
    revision = current_revision(database)
    if _is_usable(database, revision):
        return
    found = "has no tables of workflow_engine yet"
    if revision is not None:
        found = f"is at revision {revision}, this version needs {HEAD}"
    raise MigrationRequiredError(f"The database {database.safe_url} {found}; run `{UPGRADE_COMMAND}`")


def ensure(database: Database, *, auto_upgrade_sqlite: bool) -> None:
    """Bring a SQLite schema up to date if that is allowed; otherwise only check.

    Raises:
        MigrationRequiredError: The schema is not the one this version needs.
    """
    if auto_upgrade_sqlite and not database.is_postgres:
        upgrade(database)
    else:
        check(database)


def upgrade(database: Database) -> bool:
    """Bring the schema up to date, in one transaction; return whether anything was to do.

    Any number of processes may call it at once: one migrates, the others wait for it and find nothing to do.

    Raises:
        DatabaseUnavailableError: Another query held one of the tables all the time; nothing was changed.
        MigrationRequiredError: A newer version of this package changed the schema so that this one cannot use it.
        StoreError: A table of another owner has the name of one of ours.
    """
    if _is_usable(database, current_revision(database)):
        return False
    if database.is_postgres:
        return database.transact(_migrate, limits=UNLIMITED)

    def migrate() -> bool:
        with _without_foreign_keys(database) as connection, connection.begin():
            return _migrate(connection)

    return database.retry(migrate)


def find_drift(database: Database) -> list[str]:
    """Return how the tables differ from what this version expects, as far as Alembic can tell; normally nothing."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - costs half a second; upgrades only
    from alembic.migration import MigrationContext  # noqa: PLC0415 - same

    def compare(connection: Connection) -> list[str]:
        context = MigrationContext.configure(connection, opts=MIGRATION_OPTIONS)
        return [str(difference) for difference in compare_metadata(context, metadata)]

    return database.read(compare)


def _read_revision(connection: Connection) -> str | None:
    """Return the revision of the schema; where only release 0.1.0 has migrated it, the other table holds it."""
    tables = sa.inspect(connection)
    for name in (_REVISION_TABLE, _REQUIRED_TABLE):
        if tables.has_table(name):
            return connection.scalar(sa.select(_versions(name).c.version_num))
    return None


def _versions(name: str) -> sa.Table:
    return sa.Table(name, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


def _migrate(connection: Connection) -> bool:
    """Apply what is missing; the answer of ``current_revision`` may be out of date once the lock is held."""
    if connection.dialect.name == "postgresql":
        _take_turns(connection)
    revision = _read_revision(connection)
    if revision == HEAD:
        return False
    if revision is None:
        _refuse_foreign_tables(connection)
    from alembic import command  # noqa: PLC0415 - costs half a second; upgrades only

    _note(connection, _REVISION_TABLE, revision)
    with _alembic_turn:
        command.upgrade(_alembic_config(connection), "head")
        _note(connection, _REQUIRED_TABLE, _required_revision())
    return True


def _note(connection: Connection, table: str, revision: str | None) -> None:
    versions = _versions(table)
    versions.create(connection, checkfirst=True)
    connection.execute(sa.delete(versions))
    if revision is not None:
        connection.execute(sa.insert(versions).values(version_num=revision))


def _required_revision() -> str:
    """Return the newest revision of this package that does more than expand the schema."""
    return next(str(script.revision) for script in _revisions() if not getattr(script.module, "expands_only", False))


def _take_turns(connection: Connection) -> None:
    """Wait for another migration, however long; for a table only moments.

    Workers queue behind a migration that waits for a table. A migration that meets a long query, a dump for example,
    therefore steps back and tries again.
    """
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}"))


def _refuse_foreign_tables(connection: Connection) -> None:
    taken = sorted(set(metadata.tables) & set(sa.inspect(connection).get_table_names()))
    if taken:
        raise StoreError(
            f"The database has tables that are not workflow_engine's own under the names it needs: {', '.join(taken)}; "
            "use a database, or on PostgreSQL a schema (search_path), of its own"
        )


@contextmanager
def _without_foreign_keys(database: Database) -> Iterator[Connection]:
    """Open a SQLite connection on which a table can be rebuilt: dropping the old one must not cascade.

    The pragma has no effect inside a transaction, so it is set before.
    """
    with database.pool.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            yield connection
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


def _alembic_config(connection: Connection | None = None) -> Any:
    from alembic.config import Config  # noqa: PLC0415 - costs half a second; upgrades only

    config = Config()
    config.set_main_option("script_location", "workflow_engine:store/migrations")
    config.attributes["connection"] = connection
    return config


def _is_known(revision: str) -> bool:
    return revision in {script.revision for script in _revisions()}


def _revisions() -> Iterator[Any]:
    """Yield the revisions of this package, the newest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - costs half a second; upgrades and errors only

    return ScriptDirectory.from_config(_alembic_config()).walk_revisions()


def _is_usable(database: Database, revision: str | None) -> bool:
    """Tell whether this version works with the schema as it is: at ``HEAD``, or expanded by a later version.

    Raises:
        MigrationRequiredError: A later version has done more than expand it.
    """
    if revision == HEAD:
        return True
    if revision is None or _is_known(revision):
        return False
    required = database.read(lambda tx: tx.scalar(sa.select(_versions(_REQUIRED_TABLE).c.version_num)))
    if required is None or not _is_known(required):
        raise MigrationRequiredError(
            f"The database {database.safe_url} is at revision {revision}, which this version of workflow_engine does "
            f"not know (it knows up to {HEAD}): install the version that ran `{UPGRADE_COMMAND}` there"
        )
    return True
