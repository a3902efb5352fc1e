"""``workflow-engine runs``: create, find, look at and steer runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workflow_engine.arguments import MOST_ITEMS
from workflow_engine.cli.connection import pass_connection
from workflow_engine.cli.errors import EXIT_RUN_FAILED, EXIT_TIMED_OUT, CommandError
from workflow_engine.cli.parameters import DURATION, JSON, PAIR, RUN_STATUS, json_option
from workflow_engine.cli.screens import run_screens
from workflow_engine.cli.screens.console import messages, output, print_json, print_json_line
from workflow_engine.cli.screens.follow import follow_events, follow_logs
from workflow_engine.errors import RunCancelled, RunFailed, RunWaitTimeout
from workflow_engine.lifecycle import RunStatus
from workflow_engine.priorities import HIGHEST_PRIORITY, LOWEST_PRIORITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from rich.text import Text

    from workflow_engine.cli.connection import Connection
    from workflow_engine.facade.reading import RunReader
    from workflow_engine.facade.runtime import WorkflowRuntime
    from workflow_engine.store.reads.snapshots import RunSnapshot

T = TypeVar("T")

history_option = click.option("--history", is_flag=True, help="Also what belongs to stage runs that reruns replaced.")
wait_option = click.option("--wait", is_flag=True, help="Wait for the end and write the output.")
follow_option = click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
generation_option = click.option(
    "--generation", "expected_generation", type=click.IntRange(0), help="Refuse a run that is in another generation."
)
run_argument = click.argument("run_id", metavar="RUN")


@click.group(short_help="Create runs, look at them and steer them.")
def runs() -> None:
    """Create runs, find them, look at them and steer them."""


@runs.command()
@click.argument("workflow_id", metavar="WORKFLOW")
@click.option("--input", "input_", type=JSON, metavar="JSON", help="Input: JSON, @file, or - for standard input.")
@click.option("--config", type=JSON, metavar="JSON", help='Config by stage: {"extract": {"max_chars": 100}}.')
@click.option("--priority", type=int, help=f"{LOWEST_PRIORITY} to {HIGHEST_PRIORITY}; higher is more important.")
@click.option("--metadata", type=PAIR, multiple=True, help="A pair to find the run by; may be repeated.")
@click.option("--idempotency-key", "--key", "idempotency_key", help="The same key gives the same run.")
@wait_option
@json_option
@pass_connection
def create(
    connection: Connection,
    workflow_id: str,
    input_: Any,
    metadata: tuple[tuple[str, Any], ...],
    *,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Create a run of WORKFLOW and print its id."""
    runtime = connection.runtime(create_database=True)
    run = runtime.create_run(workflow_id, input_, metadata=dict(metadata) or None, **options)
    if wait:
        _wait(runtime, run.id)
    elif as_json:
        print_json(run_screens.as_dict(_show(runtime, run.snapshot())))
    else:
        output().print(run.id)


@runs.command("list")
@click.option("--status", "statuses", type=RUN_STATUS, multiple=True, help="Only these; may be repeated.")
@click.option("--workflow", help="Only runs of this workflow.")
@click.option("--metadata", type=PAIR, multiple=True, help="Only runs with this pair; may be repeated.")
@click.option("--since", type=DURATION, help="Only runs created within this time, e.g. 24h.")
@click.option("--limit", type=click.IntRange(1, MOST_ITEMS), default=20, help="At most this many.")
@click.option("--cursor", help="Where the next page begins, as printed below the page before.")
@json_option
@pass_connection
def list_(
    connection: Connection,
    statuses: tuple[str, ...],
    metadata: tuple[tuple[str, Any], ...],
    since: timedelta | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """List runs, newest first."""
    runtime = connection.runtime()
    now = runtime.clock.now()
    page = runtime.list_runs(
        status=[RunStatus(status.upper()) for status in statuses],
        metadata=dict(metadata) or None,
        created_after=now - since if since else None,
        **options,
    )
    items = [_show(runtime, run) for run in page.items]
    if as_json:
        print_json({"items": [run_screens.as_dict(run) for run in items], "next_cursor": page.next_cursor})
        return
    console = output()
    if not items:
        messages().print("No runs" + (" match" if statuses or metadata or since or options["workflow"] else ""))
        return
    console.print(run_screens.runs_table(items, now=now, width=console.width))
    console.print(f"\n{run_screens.count_line(items)}", style="label")
    if page.next_cursor:
        console.print(f"more with --cursor {page.next_cursor}", style="label")


@runs.command()
@run_argument
@history_option
@json_option
@pass_connection
def show(connection: Connection, run_id: str, *, history: bool, as_json: bool) -> None:
    """Show a run with its stages and errors."""
    runtime = connection.runtime()
    run, stages = _show(runtime, runtime.get_run(run_id).snapshot()), runtime.list_stages(run_id, history=history)
    if as_json:
        print_json({**run_screens.as_dict(run), "stages": [run_screens.as_dict(stage) for stage in stages]})
        return
    console = output()
    console.print(run_screens.run_screen(run, stages, now=runtime.clock.now(), width=console.width))


@runs.command("output")
@run_argument
@click.option("--stage", help="The output of this stage instead of the run's.")
@click.option("--reveal", is_flag=True, help="Also values whose names say that they are secrets.")
@pass_connection
def output_(connection: Connection, run_id: str, stage: str | None, *, reveal: bool) -> None:
    """Write the output of a run as JSON."""
    runtime = connection.runtime()
    reader = _plain_reader(runtime)
    value = reader.get_stage_output(run_id, stage) if stage else reader.get_output(run_id)
    print_json(value if reveal else runtime.settings.redactor.data(value))


@runs.command(short_help="Wait until a run ends and write its output.")
@run_argument
@click.option("--timeout", type=DURATION, help="Give up after this time; the run goes on.")
@pass_connection
def wait(connection: Connection, run_id: str, timeout: timedelta | None) -> None:
    """Wait until a run ends and write its output; exit code 1 when it failed or was cancelled, 124 when it goes on."""
    _wait(connection.runtime(), run_id, timeout=timeout)


@runs.command()
@run_argument
@click.option("--stage", help="Only this stage.")
@history_option
@follow_option
@json_option
@pass_connection
def logs(connection: Connection, run_id: str, stage: str | None, *, history: bool, follow: bool, as_json: bool) -> None:
    """Write the log of a run's stages."""
    entries = follow_logs(connection.runtime(), run_id, stage=stage, history=history, follow=follow)
    _print_lines(entries, run_screens.log_line, as_json=as_json)


@runs.command()
@run_argument
@click.option("--after", "after_sequence", type=click.IntRange(min=0), default=0, help="Only those after this number.")
@follow_option
@json_option
@pass_connection
def events(connection: Connection, run_id: str, after_sequence: int, *, follow: bool, as_json: bool) -> None:
    """Write what happened to a run, in order."""
    found = follow_events(connection.runtime(), run_id, after_sequence=after_sequence, follow=follow)
    _print_lines(found, run_screens.event_line, as_json=as_json)


@runs.command(short_help="List the artifacts of a run, or write one.")
@run_argument
@click.argument("key", required=False)
@click.option("--stage", help="The stage that KEY belongs to; without it, KEY is one that the run's stages share.")
@click.option("--generation", type=click.IntRange(0), help="KEY as stage runs of this generation left it.")
@history_option
@json_option
@pass_connection
def artifacts(
    connection: Connection,
    run_id: str,
    key: str | None,
    stage: str | None,
    generation: int | None,
    *,
    history: bool,
    as_json: bool,
) -> None:
    """List the artifacts of a run, or write the one under KEY as JSON."""
    runtime = connection.runtime()
    if key is not None:
        print_json(runtime.get_artifact(run_id, key, stage=stage, generation=generation))
        return
    entries = runtime.list_artifacts(run_id, history=history)
    if as_json:
        print_json([run_screens.as_dict(entry) for entry in entries])
    elif entries:
        output().print(run_screens.artifacts_table(entries))
    else:
        messages().print("No artifacts")


@runs.command(short_help="End a run now.")
@run_argument
@click.option("--reason", help="Recorded with the cancellation.")
@click.option("--terminate", is_flag=True, help="Also kill the pool processes that execute it.")
@pass_connection
def cancel(connection: Connection, run_id: str, reason: str | None, *, terminate: bool) -> None:
    """Cancel a run: no further stage starts, and running stages are told."""
    runtime = connection.runtime()
    _say_status(runtime.cancel(run_id, reason=reason, terminate=terminate))


@runs.command(short_help="Pause a run.")
@run_argument
@pass_connection
def pause(connection: Connection, run_id: str) -> None:
    """Pause a run: running stages end, no further stage starts until it is resumed."""
    runtime = connection.runtime()
    runtime.pause(run_id)
    _say_status(runtime.get_run(run_id).snapshot())


@runs.command()
@run_argument
@pass_connection
def resume(connection: Connection, run_id: str) -> None:
    """Let a paused run go on."""
    runtime = connection.runtime()
    runtime.resume(run_id)
    _say_status(runtime.get_run(run_id).snapshot())


@runs.command()
@run_argument
@click.option("--from-stage", required=True, help="The first stage to run again; earlier outputs are kept.")
@click.option("--only", is_flag=True, help="Of a parallel group, run this stage alone again.")
@click.option("--idempotency-key", help="The same key reruns the run once.")
@generation_option
@wait_option
@pass_connection
def rerun(connection: Connection, run_id: str, *, wait: bool, **options: Any) -> None:
    """Run an ended run again from a stage on."""
    runtime = connection.runtime()
    run = runtime.rerun(run_id, **options)
    if wait:
        _wait(runtime, run.id)
    else:
        _say_status(run.snapshot())


@runs.command(short_help="Make a run that shares another's earlier outputs.")
@run_argument
@click.option("--from-stage", required=True, help="The first stage to run; outputs of earlier ones are shared.")
@click.option("--config", type=JSON, metavar="JSON", help="Config by stage that differs from the original's.")
@click.option("--idempotency-key", help="The same key gives the same fork.")
@generation_option
@wait_option
@pass_connection
def fork(connection: Connection, run_id: str, *, wait: bool, **options: Any) -> None:
    """Make a new run that shares the earlier outputs of another, and print its id."""
    runtime = connection.runtime()
    run = runtime.fork(run_id, **options)
    if wait:
        _wait(runtime, run.id)
    else:
        output().print(run.id)


def _print_lines(entries: Iterable[T], to_line: Callable[[T], Text], *, as_json: bool) -> None:
    """Write each entry as soon as it comes."""
    console = output()
    for entry in entries:
        if as_json:
            print_json_line(run_screens.as_dict(entry))
        else:
            console.print(to_line(entry), soft_wrap=True)


def _say_status(run: RunSnapshot) -> None:
    output().print(run.id, run_screens.status_line(run), soft_wrap=True)


def _show(runtime: WorkflowRuntime, run: RunSnapshot) -> RunSnapshot:
    """Return a run as it is shown: without the values in its metadata whose names say that they are secrets."""
    return replace(run, metadata=runtime.settings.redactor.data(run.metadata))


def _plain_reader(runtime: WorkflowRuntime) -> RunReader:
    """Return a reader that knows no workflow, and so returns outputs as they are recorded."""
    from workflow_engine.definition import as_registry  # noqa: PLC0415 - `--help` is quick
    from workflow_engine.facade.reading import RunReader  # noqa: PLC0415 - same

    return RunReader(runtime.database, as_registry(()))


def _wait(runtime: WorkflowRuntime, run_id: str, *, timeout: timedelta | None = None) -> None:
    """Wait for a run and write its output; any other end is said on standard error and by the exit code."""
    try:
        runtime.get_run(run_id).wait(timeout=timeout)
    except (RunFailed, RunCancelled, RunWaitTimeout) as error:
        CommandError(str(error)).show()
        click.get_current_context().exit(EXIT_TIMED_OUT if isinstance(error, RunWaitTimeout) else EXIT_RUN_FAILED)
    print_json(runtime.settings.redactor.data(_plain_reader(runtime).get_output(run_id)))
