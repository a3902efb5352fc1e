"""``workflow-engine worker`` and ``workflow-engine beat``: Celery's own, for the workflows named."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from workflow_engine.cli.connection import pass_connection

if TYPE_CHECKING:
    from workflow_engine.cli.connection import Connection

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.command(context_settings=_PASS_ON, short_help="Become a Celery worker for your workflows.")
@click.argument("celery_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY ARGUMENTS]...")
@pass_connection
def worker(connection: Connection, celery_arguments: tuple[str, ...]) -> None:
    """Become a Celery worker for the workflows named; arguments go to `celery worker`, e.g. --concurrency 8."""
    _become(connection, "worker", celery_arguments)


@click.command(context_settings=_PASS_ON, short_help="Become the Celery beat that triggers the sweep.")
@click.argument("celery_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY ARGUMENTS]...")
@pass_connection
def beat(connection: Connection, celery_arguments: tuple[str, ...]) -> None:
    """Become a Celery beat that triggers the sweep; arguments go to `celery beat`."""
    _become(connection, "beat", celery_arguments)


def _become(connection: Connection, role: str, arguments: tuple[str, ...]) -> None:
    """Replace this process by Celery's, so that signals and exit codes are its own."""
    settings = connection.settings()
    os.environ["WORKFLOW_ENGINE_DATABASE_URL"] = settings.database_url
    os.environ["WORKFLOW_ENGINE_BROKER_URL"] = settings.broker_url
    if connection.app:
        os.environ["WORKFLOW_ENGINE_WORKFLOWS"] = connection.app
    command = [sys.executable, "-m", "celery", "--app", "workflow_engine.worker.standalone", role, *arguments]
    os.execv(sys.executable, command)  # noqa: S606 - the interpreter that runs this, with the caller's arguments
