"""What runs, their stages, logs and events look like."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from workflow_engine.cli.screens.console import fitted_table, make_table, paused_text, status_style, status_text
from workflow_engine.cli.screens.formatting import (
    format_age,
    format_cost,
    format_count,
    format_duration,
    format_fields,
    format_instant,
    format_json,
    format_time,
    one_line,
)
from workflow_engine.lifecycle import RunStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType
    from rich.table import Table

    from workflow_engine.events import Event
    from workflow_engine.store.reads.snapshots import ArtifactEntry, LogEntry, RunSnapshot, StageSnapshot, Suspension

#: Width of a terminal from which on there is room for another column or the timeline.
_WIDE: Final = 110
_TIMELINE: Final = 28
#: Longest text shown of a suspended state; ``--json`` has the rest.
_LONGEST_STATE: Final = 1000
_LEVEL_STYLES: Final = {"debug": "idle", "info": "ok", "warning": "waiting", "error": "bad"}
_EVENT_STYLES: Final = {
    "completed": "ok",
    "failed": "bad",
    "lost": "bad",
    "cancelled": "idle",
    "retrying": "waiting",
    "suspended": "waiting",
    "started": "busy",
}


def runs_table(runs: Sequence[RunSnapshot], *, now: datetime, width: int) -> Table:
    """Return a table of runs; a wide terminal also shows priority, duration and what went wrong."""
    is_wide = width >= _WIDE
    headers = ("run", "status", "workflow", "created", *(("prio", "took", "note") if is_wide else ()))
    rows = [[cell for cell, is_shown in _run_cells(run, now, is_wide=is_wide) if is_shown] for run in runs]
    # The id is for copying and the status for looking: the note, or on a narrow terminal the workflow's id, is cut.
    return fitted_table(headers, rows, width=width, flexible=len(headers) - 1 if is_wide else 2)


def _run_cells(run: RunSnapshot, now: datetime, *, is_wide: bool) -> list[tuple[Text, bool]]:
    return [
        (Text(run.id, style="id"), True),
        (_run_status(run), True),
        (Text(run.workflow_id), True),
        (Text(format_age(run.created_at, now), style="label"), True),
        (Text(str(run.priority)), is_wide),
        (Text(format_duration(run.duration)), is_wide),
        (_run_note(run), is_wide),
    ]


def run_screen(run: RunSnapshot, stages: Sequence[StageSnapshot], *, now: datetime, width: int) -> Group:
    """Return everything about a run on one screen: its head, its stages and its errors."""
    parts: list[RenderableType] = [_head(run), _facts(run, now), Text(), stages_table(stages, now=now, width=width)]
    for stage in stages:
        if stage.status is StageStatus.SUSPENDED and stage.suspension:
            parts += [Text(), _suspension(stage, stage.suspension, now)]
    errors = [_error(stage) for stage in stages if stage.error and stage.status is not StageStatus.COMPLETED]
    if not errors and run.error_message:
        errors = [Text.assemble((f"{run.error_code}: ", "bad"), run.error_message)]
    for error in errors:
        parts += [Text(), error]
    return Group(*parts)


def stages_table(stages: Sequence[StageSnapshot], *, now: datetime, width: int) -> Table:
    """Return a table of stage runs, with a timeline where there is room."""
    is_wide = width >= _WIDE and any(stage.started_at for stage in stages)
    table = make_table("", "stage", "status", "try", "took", "note", *(("timeline",) if is_wide else ()))
    for index in (0, 3, 4):
        table.columns[index].justify = "right"
        table.columns[index].no_wrap = True
    table.columns[1].overflow = "ellipsis"
    table.columns[1].no_wrap = table.columns[2].no_wrap = True
    begin, end = _span(stages, now)
    seen_group = None
    for stage in stages:
        group = (stage.generation if not stage.is_live else None, stage.execution_group)
        cells: list[RenderableType] = [
            Text(str(stage.execution_group) if group != seen_group else "", style="label"),
            Text(stage.stage_id, style="" if stage.is_live else "idle"),
            status_text(stage.status),
            f"{stage.attempt}/{stage.max_attempts}" if stage.attempt else "",
            format_duration(stage.duration) if stage.started_at else "",
            Text(_note(stage, now), style="label"),
        ]
        seen_group = group
        table.add_row(*cells, *((_bar(stage, begin, end, now),) if is_wide else ()))
    return table


def artifacts_table(entries: Sequence[ArtifactEntry]) -> Table:
    """Return a table of artifacts; those that are history are marked with their generation."""
    table = make_table("stage", "key", "bytes", "saved", "by", "note")
    table.columns[2].justify = "right"
    for entry in entries:
        table.add_row(
            Text(entry.stage_id or "(shared)", style="id"),
            Text(entry.key, style="" if entry.is_live else "idle"),
            f"{entry.size_bytes:,}",
            Text(format_instant(entry.updated_at), style="label"),
            entry.written_by,
            Text("" if entry.is_live else f"history, generation {entry.generation}", style="label"),
        )
    return table


def log_line(entry: LogEntry) -> Text:
    """Return one line of a log."""
    return Text.assemble(
        (format_time(entry.created_at), "label"),
        "  ",
        (f"{entry.level:<7}", _LEVEL_STYLES.get(entry.level.lower(), "")),
        "  ",
        (f"{entry.stage_id}", "id"),
        (f" #{entry.attempt}" if entry.attempt > 1 else "", "label"),
        "  ",
        entry.message,
        "  " if entry.fields else "",
        (format_fields(entry.fields), "label"),
    )


def event_line(event: Event) -> Text:
    """Return one event."""
    time = format_time(event.created_at) if event.created_at else ""
    style = _EVENT_STYLES.get(event.type.value.partition(".")[2], "")
    return Text.assemble(
        (f"{event.sequence:>4}", "label"),
        "  ",
        (time, "label"),
        "  ",
        (f"{event.type.value:<16}", style),
        "  ",
        (f"{event.stage_id or ''}", "id"),
        "  " if event.payload else "",
        (_event_details(event.payload), "label"),
    )


def count_line(runs: Iterable[RunSnapshot]) -> str:
    """Return how many runs there are of each status: ``3 COMPLETED, 1 FAILED``."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.status.value] = counts.get(run.status.value, 0) + 1
    return ", ".join(f"{counts[status.value]} {status.value}" for status in RunStatus if status.value in counts)


def _event_details(payload: Mapping[str, Any]) -> str:
    """Return the details of an event; progress reads as a percentage and a message."""
    shown = {key: value for key, value in payload.items() if value not in ({}, None, "")}
    fraction, message = shown.pop("fraction", None), shown.pop("message", None)
    parts = [f"{fraction:.0%}" if isinstance(fraction, float | int) else "", str(message or ""), format_fields(shown)]
    return one_line(" ".join(filter(None, parts)))


def _head(run: RunSnapshot) -> Text:
    return Text.assemble((run.workflow_name, "title"), "  ", status_line(run), "\n", (run.id, "id"))


def status_line(run: RunSnapshot) -> Text:
    """Return the status of a run, and whether it is paused."""
    text = status_text(run.status)
    return Text("  ").join([text, paused_text()]) if _is_paused(run) else text


def _run_status(run: RunSnapshot) -> Text:
    """Return the status of a run in one word for a list: a paused run is shown as such, whatever its status."""
    return paused_text() if _is_paused(run) else status_text(run.status)


def _is_paused(run: RunSnapshot) -> bool:
    return (run.paused or run.workflow_paused) and not run.status.is_terminal


def _run_note(run: RunSnapshot) -> Text:
    if run.error_message:
        return Text(one_line(run.error_message), style="bad")
    return Text(one_line(format_fields(run.metadata)), style="label")


def _facts(run: RunSnapshot, now: datetime) -> Padding:
    table = make_table("", "")
    table.show_header = False
    table.columns[0].style = "label"
    for label, value in _describe(run, now):
        table.add_row(label, Text(value))
    return Padding(table, (1, 0, 0, 0))


def _describe(run: RunSnapshot, now: datetime) -> Iterable[tuple[str, str]]:
    """Return the facts of a run as labels and texts; facts without a text are left out."""
    running_for = format_duration(now - run.started_at) if run.started_at and run.duration is None else ""
    reruns = f"{run.generation} ({format_count(run.generation, 'rerun')})" if run.generation else ""
    cost = f"{format_cost(run.total_cost)} ({run.total_tokens:,} tokens)"
    deadline = f"{format_instant(run.deadline_at)} ({format_age(run.deadline_at, now)})"
    facts = {
        "workflow": f"{run.workflow_id} (version {run.workflow_version})",
        "created": f"{format_instant(run.created_at)} ({format_age(run.created_at, now)})",
        "took": format_duration(run.duration) if run.duration is not None else "",
        "running for": running_for,
        "priority": str(run.priority),
        "generation": reruns,
        "cost": cost if run.total_cost or run.total_tokens else "",
        "metadata": one_line(format_fields(run.metadata)),
        "key": run.idempotency_key,
        "type": run.workflow_type or "",
        "parent": run.parent_run_id,
        "forked from": run.forked_from,
        "deadline": deadline if run.deadline_at else "",
    }
    return [(label, value) for label, value in facts.items() if value]


def _note(stage: StageSnapshot, now: datetime) -> str:
    """Return the notes on a stage run, the most urgent first."""
    return ", ".join(filter(None, (*_waiting_notes(stage, now), *_counts(stage))))


def _waiting_notes(stage: StageSnapshot, now: datetime) -> Iterable[str]:
    """Yield notes on what a stage run waits for, and on its last error."""
    is_pending = stage.status is StageStatus.PENDING
    if stage.mismatch_since and is_pending:
        yield f"no worker has its definition since {format_age(stage.mismatch_since, now)}"
    if is_pending and stage.available_at > now:
        yield f"due {format_age(stage.available_at, now)}"
    if is_pending and stage.queue_timeout_at:
        yield f"fails {format_age(stage.queue_timeout_at, now)} unless claimed"
    if stage.status is StageStatus.SUSPENDED and stage.next_poll_at:
        yield f"next poll {format_age(stage.next_poll_at, now)}"
    if stage.error and stage.status is not StageStatus.FAILED:
        yield one_line(stage.error.message, 60)
    if stage.cleanup_due_at:
        yield f"owes a clean-up, tried {_times(stage.cleanup_attempts)}"


def _counts(stage: StageSnapshot) -> Iterable[str]:
    """Yield notes on how often a stage run was lost, postponed, redispatched and polled, and on what it cost."""
    yield f"lost {_times(stage.crashes)}" if stage.crashes else ""
    yield f"postponed {_times(stage.postponements)}" if stage.postponements else ""
    yield f"message lost {_times(stage.redispatches)}" if stage.redispatches else ""
    yield format_count(stage.polls, "poll") if stage.polls else ""
    yield f"cost {format_cost(stage.cost)}, {stage.tokens:,} tokens" if stage.cost or stage.tokens else ""
    yield "shared" if stage.shared_from else ""
    yield "" if stage.is_live else f"generation {stage.generation}"


def _times(count: int) -> str:
    return f"{count}×"  # noqa: RUF001 - a multiplication sign is meant


def _suspension(stage: StageSnapshot, waits: Suspension, now: datetime) -> Text:
    """Return what a suspended stage waits for, with the state that an operator needs to ask the provider about it."""
    from workflow_engine.definition.waits import Poll  # noqa: PLC0415 - `--help` is quick

    end = f", at most until {format_instant(stage.max_wait_until)}" if stage.max_wait_until else ""
    text = Text.assemble((stage.stage_id, "waiting"), f" waits since {format_age(stage.suspended_at, now)}{end}")
    failed = f"{format_count(waits.poll_failures, 'poll')} failed in a row" if waits.poll_failures else ""
    lost = f"{format_count(waits.poll_crashes, 'poll')} lost" if waits.poll_crashes else ""
    facts = {
        "state" if waits.on == Poll.kind else waits.on: one_line(format_json(waits.state), _LONGEST_STATE),
        "metadata": one_line(format_json(waits.metadata), _LONGEST_STATE) if waits.metadata else "",
        "polls": ", ".join(filter(None, (failed, lost))),
    }
    for label, value in facts.items():
        text.append(f"\n  {label:<8}  ", style="label").append(value) if value else None
    return text


def _error(stage: StageSnapshot) -> Text:
    error = stage.error
    if error is None:
        return Text()
    kind = f"{error.type}: " if error.type else ""
    text = Text.assemble((f"{stage.stage_id} {error.code}", "bad"), "  ", f"{kind}{error.message}")
    if error.traceback:
        last = error.traceback.strip().splitlines()[-12:]
        text.append("\n" + "\n".join(f"  {line}" for line in last), style="label")
    return text


def _span(stages: Sequence[StageSnapshot], now: datetime) -> tuple[datetime, datetime]:
    begin = min((stage.started_at for stage in stages if stage.started_at), default=now)
    end = max((stage.completed_at or now for stage in stages if stage.started_at), default=now)
    return begin, max(end, begin + timedelta(milliseconds=1))


def _bar(stage: StageSnapshot, begin: datetime, end: datetime, now: datetime) -> Text:
    """Draw when a stage ran, to scale, at least one character wide."""
    if not stage.started_at:
        return Text()
    span = (end - begin) / timedelta(milliseconds=1)
    start = int((stage.started_at - begin) / timedelta(milliseconds=1) / span * (_TIMELINE - 1))
    stop = int(((stage.completed_at or now) - begin) / timedelta(milliseconds=1) / span * _TIMELINE)
    length = max(1, min(stop, _TIMELINE) - start)
    return Text(" " * start).append("━" * length, style=status_style(stage.status))


def as_dict(snapshot: Any) -> dict[str, Any]:
    """Return a snapshot for JSON: its fields, and its duration where it has one."""
    fields = {name: getattr(snapshot, name) for name in snapshot.__dataclass_fields__}
    if hasattr(snapshot, "duration"):
        duration = snapshot.duration
        fields["duration_seconds"] = None if duration is None else duration.total_seconds()
    return {name: dict(value) if hasattr(value, "keys") else value for name, value in fields.items()}
