"""``workflow-engine sweep`` and ``workflow-engine prune``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from workflow_engine.cli.connection import pass_connection
from workflow_engine.cli.console import output, print_json
from workflow_engine.cli.errors import CommandError
from workflow_engine.cli.formatting import format_count
from workflow_engine.cli.parameters import DURATION

if TYPE_CHECKING:
    from datetime import timedelta

    from workflow_engine.cli.connection import Connection


@click.command(short_help="Do now what beat triggers.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@pass_connection
def sweep(connection: Connection, *, as_json: bool) -> None:
    """Do now what beat triggers: reap lost workers, send lost hints again, end what is overdue."""
    report = connection.runtime().sweep(force=True)
    if as_json:
        print_json(dataclasses.asdict(report))
    elif not report.repaired:
        output().print("Nothing to repair")
    else:
        done = ", ".join(f"{step} {count:,}" for step, count in report.repaired.items())
        output().print(done, soft_wrap=True)
    if report.errors:
        raise CommandError("; ".join(f"{step} failed: {error}" for step, error in report.errors.items()))


@click.command(short_help="Delete ended runs.")
@click.option("--older-than", type=DURATION, required=True, help="Runs that ended longer ago than this, e.g. 30d.")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(["completed", "failed", "cancelled"], case_sensitive=False),
    multiple=True,
    default=["completed"],
    show_default=True,
    help="Which runs; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Only count them.")
@pass_connection
def prune(connection: Connection, older_than: timedelta, statuses: tuple[str, ...], *, dry_run: bool) -> None:
    """Delete ended runs with all that is recorded of them."""
    count = connection.runtime().prune(older_than, [status.upper() for status in statuses], dry_run=dry_run)
    verb = "would be deleted" if dry_run else "deleted"
    output().print(f"{format_count(count, 'run')} {verb}")
