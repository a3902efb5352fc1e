"""``workflow-engine doctor``: whether everything is well, for people and as a health check."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from workflow_engine.cli.connection import pass_connection
from workflow_engine.cli.parameters import DURATION, json_option
from workflow_engine.cli.screens.console import make_table, output, print_json

if TYPE_CHECKING:
    from datetime import timedelta

    from workflow_engine.cli.connection import Connection
    from workflow_engine.engine.upkeep.doctor import Diagnosis

_SIGNS: Final = {"healthy": ("✓", "ok"), "degraded": ("✗", "bad"), "unknown": ("?", "waiting")}
_EXIT_CODES: Final = {"healthy": 0, "degraded": 1, "unknown": 2}


@click.command()
@json_option
@click.option("--max-wait", type=DURATION, default="5m", help="Work that is due may wait this long for a worker.")
@click.option("--patience", type=DURATION, default="1s", help="How long workers may take to answer.")
@click.option(
    "--records/--no-records",
    default=None,
    help="Read every record to check the invariants; by default if there are at most 10,000 runs.",
)
@pass_connection
def doctor(
    connection: Connection, *, as_json: bool, max_wait: timedelta, patience: timedelta, records: bool | None
) -> None:
    """Check connections, schema, workers, sweep, backlog, definitions, configuration and records; change nothing.

    Exit codes: 0 healthy, 1 degraded, 2 cannot be checked.
    """
    diagnosis = _examine(connection, patience, backlog_age=max_wait, records=records)
    if as_json:
        print_json({"health": diagnosis.health, "findings": [dataclasses.asdict(f) for f in diagnosis.findings]})
    else:
        _show(diagnosis)
    click.get_current_context().exit(_EXIT_CODES[diagnosis.health])


def _examine(connection: Connection, patience: timedelta, **limits: Any) -> Diagnosis:
    from workflow_engine.engine.upkeep.doctor import Health, Limits, check_access, examine  # noqa: PLC0415 - `--help` is quick
    from workflow_engine.store.connection.database import Database  # noqa: PLC0415 - same
    from workflow_engine.worker.broker_probe import CeleryProbe  # noqa: PLC0415 - same

    runtime = connection.runtime()
    database = Database(runtime.settings.database_url)
    click.get_current_context().call_on_close(database.close)
    access = check_access(database)
    if access.health is not Health.HEALTHY:
        return access
    app = connection.find_app() or runtime.app
    probe = CeleryProbe(app, patience)
    click.get_current_context().call_on_close(probe.close)
    return examine(runtime.engine, probe, probe.queues(), Limits(**limits))


def _show(diagnosis: Diagnosis) -> None:
    console = output()
    table = make_table("", "check", "finding")
    for finding in diagnosis.findings:
        sign, style = _SIGNS[finding.health]
        table.add_row(Text(sign, style=style), finding.check, finding.message)
        for detail in finding.details:
            table.add_row("", "", Text(f"  {detail}", style="label"))
    console.print(table)
    _, style = _SIGNS[diagnosis.health]
    console.print(str(diagnosis.health), style=style)
