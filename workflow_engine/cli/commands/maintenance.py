"""``workflow-engine sweep`` and ``workflow-engine prune``."""

from __future__ import annotations

import dataclasses
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from workflow_engine.cli.connection import pass_connection
from workflow_engine.cli.errors import CommandError
from workflow_engine.cli.parameters import DURATION, json_option
from workflow_engine.cli.screens.console import output, print_json
from workflow_engine.cli.screens.formatting import format_count, format_duration

if TYPE_CHECKING:
    from workflow_engine.cli.connection import Connection


#: Younger runs are not deleted without a question or --yes.
_SHORTEST_AGE: Final = timedelta(days=1)


@click.command(short_help="Do now what beat triggers.")
@json_option
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
    help="Which runs; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Delete without asking.")
@pass_connection
def prune(
    connection: Connection, older_than: timedelta, statuses: tuple[str, ...], *, dry_run: bool, is_sure: bool
) -> None:
    """Delete ended runs with all that is recorded of them.

    On a terminal it asks first. Elsewhere, in a cron job for instance, it needs --yes for runs that ended less than a
    day ago.
    """
    runtime, wanted = connection.runtime(), [status.upper() for status in statuses]
    is_safe = dry_run or is_sure
    if not is_safe and not _confirm(runtime.prune(older_than, wanted, dry_run=True), older_than):
        output().print("Nothing was deleted")
        return
    count = runtime.prune(older_than, wanted, dry_run=dry_run)
    verb = "would be deleted" if dry_run else "deleted"
    output().print(f"{format_count(count, 'run')} {verb}")


def _confirm(count: int, older_than: timedelta) -> bool:
    """Ask on a terminal; elsewhere refuse a duration so short that it is most likely a slip of the keyboard."""
    if sys.stdin.isatty():
        return not count or click.confirm(f"Delete {format_count(count, 'run')} for good?", err=True)
    if older_than < _SHORTEST_AGE:
        raise CommandError(
            f"--older-than {format_duration(older_than)} would delete {format_count(count, 'run')}, also of the last "
            "day; add --yes if that is meant"
        )
    return True
