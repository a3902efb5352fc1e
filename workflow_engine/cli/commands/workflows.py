"""``workflow-engine workflows``: the workflows that can be run here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from workflow_engine.cli.connection import pass_connection
from workflow_engine.cli.parameters import json_option
from workflow_engine.cli.screens.console import make_table, output, print_json
from workflow_engine.cli.screens.formatting import format_duration
from workflow_engine.cli.screens.graphs import draw_groups
from workflow_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.table import Table

    from workflow_engine.cli.connection import Connection
    from workflow_engine.definition import Stage, Workflow

workflow_argument = click.argument("workflow_id", metavar="WORKFLOW")


@click.group(short_help="Look at workflows; pause and resume them.")
def workflows() -> None:
    """Look at the workflows that --app or WORKFLOW_ENGINE_WORKFLOWS names; pause and resume them."""


@workflows.command("list")
@json_option
@pass_connection
def list_(connection: Connection, *, as_json: bool) -> None:
    """List the workflows."""
    registry = connection.registry()
    found = [registry.get(workflow_id) for workflow_id in registry.ids()]
    if as_json:
        print_json([_summary(workflow) for workflow in found])
        return
    if not found:
        raise ConfigurationError("No workflows are known here; name them with --app module:attribute")
    table = make_table("workflow", "name", "version", "stages")
    table.columns[3].overflow = "fold"
    for workflow in found:
        steps = " → ".join(" + ".join(stage.id for stage in group.stages) for group in workflow.groups)
        table.add_row(Text(workflow.id, style="id"), workflow.name, workflow.version, steps)
    output().print(table)


@workflows.command()
@workflow_argument
@json_option
@pass_connection
def show(connection: Connection, workflow_id: str, *, as_json: bool) -> None:
    """Show a workflow: its stages, what they take and return, and how they are retried."""
    workflow = connection.registry().get(workflow_id)
    if as_json:
        config = connection.settings().redactor.data(workflow.default_config())
        print_json({**_summary(workflow), "config": config, "input_schema": workflow.input.json_schema()})
        return
    console = output()
    console.print(Text.assemble((workflow.name, "title"), "  ", (workflow.id, "id"), f"  version {workflow.version}"))
    if workflow.description:
        console.print(workflow.description)
    console.print(f"\n{workflow.input.name} → {workflow.output.name}\n")
    console.print(_stage_table(workflow))


@workflows.command()
@workflow_argument
@click.option(
    "--format", "form", type=click.Choice(["text", "mermaid"]), default="text", help="The form of the drawing."
)
@pass_connection
def graph(connection: Connection, workflow_id: str, form: str) -> None:
    """Draw a workflow."""
    workflow = connection.registry().get(workflow_id)
    console = output()
    if form == "mermaid":
        console.print(workflow.to_mermaid(), soft_wrap=True)
    else:
        groups = [[stage.name for stage in group.stages] for group in workflow.groups]
        console.print("\n".join(draw_groups(groups, width=console.width)), soft_wrap=True)


@workflows.command()
@workflow_argument
@pass_connection
def pause(connection: Connection, workflow_id: str) -> None:
    """Pause all runs of a workflow: running stages end, no further stage starts until it is resumed."""
    connection.runtime().pause_workflow(workflow_id)
    output().print(f"{workflow_id} is paused")


@workflows.command()
@workflow_argument
@pass_connection
def resume(connection: Connection, workflow_id: str) -> None:
    """Let the runs of a paused workflow go on."""
    connection.runtime().resume_workflow(workflow_id)
    output().print(f"{workflow_id} goes on")


def _stage_table(workflow: Workflow[Any, Any]) -> Table:
    table = make_table("", "stage", "takes → returns", "tries", "waits for", "config")
    table.columns[1].no_wrap = True
    for group in workflow.groups:
        for index, stage in enumerate(group.stages):
            table.add_row(
                Text(str(group.number) if not index else "", style="label"),
                stage.id,
                _types(stage),
                str(stage.retry.max_attempts),
                _waits(stage),
                Text(", ".join(stage.config.json_schema().get("properties", {})), style="label"),
            )
    return table


def _types(stage: Stage[Any, Any]) -> str:
    """Return what a stage takes and returns, without the modules of the types."""
    takes = stage.input.name if stage.takes_input else "–"  # noqa: RUF001 - a dash for "nothing" is meant
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", f"{takes} → {stage.output.name}")


def _waits(stage: Stage[Any, Any]) -> str:
    waits = ["polls"] if stage.poll else []
    if stage.timeout:
        waits.append(f"at most {format_duration(stage.timeout)}")
    return ", ".join(waits)


def _summary(workflow: Workflow[Any, Any]) -> dict[str, Any]:
    return {
        "id": workflow.id,
        "name": workflow.name,
        "version": workflow.version,
        "description": workflow.description,
        "groups": [[stage.id for stage in group.stages] for group in workflow.groups],
    }
