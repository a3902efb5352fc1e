"""``workflow-engine db``: the schema of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from workflow_engine.cli.connection import pass_connection, require_database
from workflow_engine.cli.parameters import json_option
from workflow_engine.cli.screens.console import output, print_json

if TYPE_CHECKING:
    from workflow_engine.cli.connection import Connection


@click.group()
def db() -> None:
    """Bring the database up to date, or check that it is."""


@db.command()
@pass_connection
def upgrade(connection: Connection) -> None:
    """Create the tables or bring them up to date; safe to run any number of times, also at once."""
    from workflow_engine.store.schema import revisions as schema  # noqa: PLC0415 - `--help` is quick

    database = connection.database()
    did_something = schema.upgrade(database)
    outcome = "is now at" if did_something else "was already at"
    output().print(f"{database.safe_url} {outcome} revision {schema.HEAD}", soft_wrap=True)


@db.command()
@json_option
@pass_connection
def check(connection: Connection, *, as_json: bool) -> None:
    """Exit with 2 unless the tables are what this version needs."""
    from workflow_engine.store.schema import revisions as schema  # noqa: PLC0415 - `--help` is quick

    require_database(connection.settings().database_url)
    database = connection.database()
    schema.check(database)
    drift = schema.find_drift(database)
    if as_json:
        print_json({"database": database.safe_url, "revision": schema.HEAD, "drift": drift})
    else:
        output().print(f"{database.safe_url} is at revision {schema.HEAD}", soft_wrap=True)
    if drift:
        raise click.ClickException(f"the tables differ from revision {schema.HEAD}: {'; '.join(drift)}")
