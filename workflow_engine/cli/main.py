"""The ``workflow-engine`` command."""

from __future__ import annotations

import sys

import click

from workflow_engine.cli.connection import connection_options
from workflow_engine.cli.errors import run_command
from workflow_engine.cli.group import COMMANDS, CONTEXT_SETTINGS, LazyGroup

NAME = "workflow-engine"


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="celery-workflow-engine", prog_name=NAME)
@connection_options
def cli() -> None:
    """Durable workflows inside Celery: run them, look at them, steer them.

    Options and WORKFLOW_ENGINE_* variables name the database, the broker and your workflows. Exit codes: 0 done, 1 the
    run that was waited for failed or was cancelled, 2 refused, 124 not ended in time.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run_command(lambda: cli.main(prog_name=NAME, standalone_mode=False)))
