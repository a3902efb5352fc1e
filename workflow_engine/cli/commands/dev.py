"""``workflow-engine dev``: worker and beat in this process, with nothing to install."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from workflow_engine.cli.connection import pass_connection
from workflow_engine.cli.errors import CommandError
from workflow_engine.cli.screens.console import output
from workflow_engine.cli.screens.formatting import format_count

if TYPE_CHECKING:
    from workflow_engine.cli.connection import Connection
    from workflow_engine.facade.runtime import WorkflowRuntime


@click.command(short_help="Execute runs in this process until Ctrl-C.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, help="Stages at the same time.")
@click.argument("workflows", metavar="[MODULE:ATTRIBUTE]", required=False)
@pass_connection
def dev(connection: Connection, workflows: str | None, concurrency: int) -> None:
    """Execute runs in this process until Ctrl-C: worker, beat, embedded broker, and SQLite unless told otherwise.

    Other processes create runs in the same database; this one finds them after a second or two.
    MODULE:ATTRIBUTE (or --app, or WORKFLOW_ENGINE_WORKFLOWS) names a workflow, a list of them or a runtime.
    """
    connection.app = workflows or connection.app
    if not connection.workflow_names:
        raise CommandError(
            "Name your workflows: `workflow-engine dev MODULE:ATTRIBUTE`, for instance "
            "`workflow-engine dev shop.pipelines:fulfilment`, or set WORKFLOW_ENGINE_WORKFLOWS. "
            "`workflow-engine dev workflow_engine.demo:reading` serves the workflow of the demo"
        )
    # The hints of other processes go to an embedded broker of their own: a second later the sweep sends them here.
    pace = {"sweep_interval": timedelta(seconds=1), "dispatch_slack": timedelta(seconds=1)}
    runtime = connection.runtime(create_database=True, **pace)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    runtime.start(concurrency=concurrency)
    try:
        _say_ready(runtime)
        stopped.wait()
        output().print("\nstopping: running stages end first", style="label")
    finally:
        runtime.stop()


def _say_ready(runtime: WorkflowRuntime) -> None:
    console = output()
    facts: dict[str, Any] = {
        "workflows": ", ".join(runtime.registry.ids()) or "none",
        "database": runtime.database.safe_url,
        "worker": runtime.worker_id,
    }
    console.print(Text("workflow_engine is ready", style="title"))
    for label, value in facts.items():
        console.print(Text.assemble((f"  {label:<10}", "label"), value), soft_wrap=True)
    known = format_count(len(runtime.registry.ids()), "workflow")
    console.print(Text.assemble((f"\n{known}; Ctrl-C stops. In another terminal:", "label")))
    console.print("  workflow-engine runs create WORKFLOW --input '{…}' --wait")
