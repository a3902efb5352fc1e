from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from workflow_engine.cli.screens import run_screens
from workflow_engine.cli.screens.console import THEME
from workflow_engine.events import Event, EventType
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.reads.snapshots import ErrorInfo, LogEntry, RunSnapshot, StageSnapshot, Suspension

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
RUN_ID = "0197287e-6c00-7abc-8def-0123456789ab"

RUN = RunSnapshot(
    id=RUN_ID,
    workflow_id="document-analysis",
    workflow_name="Document analysis",
    workflow_type=None,
    workflow_version="1",
    status=RunStatus.COMPLETED,
    priority=5,
    paused=False,
    workflow_paused=False,
    generation=0,
    current_group=2,
    output_group=2,
    metadata={"user": "u-1"},
    idempotency_key=None,
    error_code=None,
    error_message=None,
    failed_stage_id=None,
    total_cost=Decimal(0),
    total_tokens=0,
    parent_run_id=None,
    parent_stage_run_id=None,
    forked_from=None,
    deadline_at=None,
    created_at=NOW - timedelta(minutes=5),
    started_at=NOW - timedelta(minutes=5),
    completed_at=NOW - timedelta(minutes=5) + timedelta(seconds=2.4),
)
STAGE = StageSnapshot(
    id="1",
    run_id=RUN_ID,
    stage_id="extract",
    stage_name="Extract text",
    stage_number=1,
    execution_group=1,
    generation=0,
    is_live=True,
    status=StageStatus.COMPLETED,
    attempt=1,
    max_attempts=3,
    crashes=0,
    max_crashes=3,
    postponements=0,
    queue="workflow",
    priority=5,
    worker_id="host:1:abcdef",
    lease_until=None,
    available_at=NOW - timedelta(minutes=5),
    queue_timeout_at=None,
    dispatched_at=NOW - timedelta(minutes=5),
    redispatches=0,
    mismatch_since=None,
    next_poll_at=None,
    suspended_at=None,
    max_wait_until=None,
    polls=0,
    suspension=None,
    cleanup_due_at=None,
    cleanup_attempts=0,
    shared_from=None,
    cost=Decimal(0),
    tokens=0,
    metrics={},
    error=None,
    created_at=NOW - timedelta(minutes=5),
    started_at=NOW - timedelta(minutes=5),
    completed_at=NOW - timedelta(minutes=5) + timedelta(seconds=1),
)


def rendered(thing: RenderableType, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width, emoji=False, markup=False, theme=THEME)
    console.print(thing)
    stream: Any = console.file
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


@pytest.mark.parametrize("width", [80, 120])
def test_a_run_fits_on_a_line_with_its_whole_id(width: int) -> None:
    runs = [RUN, replace(RUN, status=RunStatus.SUSPENDED, paused=True)]

    lines = rendered(run_screens.runs_table(runs, now=NOW, width=width), width).splitlines()

    assert len(lines) == 3
    assert all(RUN_ID in line for line in lines[1:])
    assert "✓ COMPLETED" in lines[1]
    assert "5 minutes ago" in lines[1]
    assert "\u2016 paused" in lines[2]


def test_a_held_run_shows_its_status_too_and_an_ended_one_is_not_held() -> None:
    held = replace(RUN, status=RunStatus.SUSPENDED, workflow_paused=True)

    assert run_screens.status_line(held).plain == "◷ SUSPENDED  \u2016 paused"
    assert run_screens.status_line(replace(RUN, paused=True)).plain == "✓ COMPLETED"


def test_a_wide_list_says_what_went_wrong() -> None:
    failed = replace(RUN, status=RunStatus.FAILED, error_message="ValueError: no\nsuch thing")

    assert "ValueError: no such thing" in rendered(run_screens.runs_table([failed], now=NOW, width=120), 120)


def test_text_of_users_is_never_read_as_markup() -> None:
    run = replace(RUN, workflow_name="[bold]x[/nope]", metadata={"a": "[red]"})

    screen = rendered(
        run_screens.run_screen(run, [replace(STAGE, error=ErrorInfo("X", None, "[/]"))], now=NOW, width=80)
    )

    assert "[bold]x[/nope]" in screen
    assert "[red]" in screen


def test_a_run_shows_its_facts_and_leaves_out_what_there_is_not() -> None:
    screen = rendered(run_screens.run_screen(RUN, [STAGE], now=NOW, width=80))

    assert "Document analysis  ✓ COMPLETED" in screen
    assert "document-analysis (version 1)" in screen
    assert "2.4 s" in screen
    assert "user=u-1" in screen
    assert "deadline" not in screen
    assert "generation" not in screen


def test_a_rerun_run_shows_cost_generation_and_deadline() -> None:
    run = replace(
        RUN,
        generation=2,
        total_cost=Decimal("0.0125"),
        total_tokens=1200,
        completed_at=None,
        deadline_at=NOW + timedelta(hours=2),
    )

    screen = rendered(run_screens.run_screen(run, [], now=NOW, width=80))

    assert "2 (2 reruns)" in screen
    assert "0.0125 (1,200 tokens)" in screen
    assert "in 2 hours" in screen
    assert "running for  5 min" in screen


def test_the_error_of_a_stage_stands_below_the_table_with_the_end_of_its_traceback() -> None:
    error = ErrorInfo(
        "STAGE_ERROR", "ValueError", "no such thing", "Traceback\n" + "line\n" * 30 + "ValueError: no such thing"
    )
    failed = replace(STAGE, status=StageStatus.FAILED, error=error)

    screen = rendered(run_screens.run_screen(replace(RUN, status=RunStatus.FAILED), [failed], now=NOW, width=80))

    assert "extract STAGE_ERROR  ValueError: no such thing" in screen
    assert screen.count("  line") == 11


def test_a_run_that_failed_by_itself_says_why() -> None:
    run = replace(RUN, status=RunStatus.FAILED, error_code="DEADLINE", error_message="too late")

    assert "DEADLINE: too late" in rendered(run_screens.run_screen(run, [STAGE], now=NOW, width=80))


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"status": StageStatus.PENDING, "available_at": NOW + timedelta(seconds=90)}, "due in 1 minute"),
        (
            {"status": StageStatus.SUSPENDED, "next_poll_at": NOW + timedelta(seconds=30), "polls": 2},
            "next poll in 30 seconds, 2 polls",
        ),
        ({"crashes": 2}, "lost 2\u00d7"),
        ({"cost": Decimal("0.5"), "tokens": 10}, "cost 0.50, 10 tokens"),
        ({"status": StageStatus.PENDING, "error": ErrorInfo("X", "E", "timed out")}, "timed out"),
        ({"is_live": False}, "generation 0"),
    ],
)
def test_a_stage_says_what_is_worth_knowing(changes: dict[str, Any], note: str) -> None:
    assert note in rendered(run_screens.stages_table([replace(STAGE, **changes)], now=NOW, width=80))


def test_a_group_number_is_written_once() -> None:
    stages = [STAGE, replace(STAGE, stage_id="a", execution_group=2), replace(STAGE, stage_id="b", execution_group=2)]

    lines = rendered(run_screens.stages_table(stages, now=NOW, width=80)).splitlines()[1:]

    assert [line[0] for line in lines] == ["1", "2", " "]


def test_a_wide_terminal_shows_when_each_stage_ran() -> None:
    begin = NOW - timedelta(minutes=5)
    second = replace(
        STAGE, stage_id="b", started_at=begin + timedelta(seconds=1), completed_at=begin + timedelta(seconds=2)
    )

    lines = rendered(run_screens.stages_table([STAGE, second], now=NOW, width=120), 120).splitlines()

    bars = [line[line.index("3 ") :].count("━") for line in lines[1:]]
    assert lines[1].index("━") < lines[2].index("━")
    assert abs(bars[0] - bars[1]) <= 1


def test_a_stage_that_took_no_time_is_visible_and_one_that_never_started_is_not() -> None:
    begin = NOW - timedelta(minutes=5)
    instant = replace(STAGE, started_at=begin, completed_at=begin)
    never = replace(STAGE, started_at=None, completed_at=None, status=StageStatus.CANCELLED)

    lines = rendered(run_screens.stages_table([STAGE, instant, never], now=NOW, width=120), 120).splitlines()

    assert "━" in lines[2]
    assert "━" not in lines[3]


def test_a_log_line_has_level_stage_message_and_fields() -> None:
    entry = LogEntry(RUN_ID, "1", "extract", 2, 1, 0, "warning", "slow", {"seconds": 3}, NOW)

    line = rendered(run_screens.log_line(entry))

    assert line.split("  ", 1)[1] == "warning  extract #2  slow  seconds=3"


def test_an_event_line_begins_with_its_number_and_ends_with_its_details() -> None:
    event = Event(RUN_ID, 7, 0, EventType.STAGE_RETRYING, "extract", {"attempt": 2, "error": None}, NOW)

    words = rendered(run_screens.event_line(event)).split()

    assert words[0] == "7"
    assert words[2:] == ["stage.retrying", "extract", "attempt=2"]


def test_progress_is_told_as_a_percentage() -> None:
    payload = {"fraction": 0.468, "message": "page 4", "details": {}}
    event = Event(RUN_ID, 7, 0, EventType.STAGE_PROGRESS, "extract", payload, NOW)

    assert rendered(run_screens.event_line(event)).endswith("extract  47% page 4")


def test_statuses_are_counted_in_the_order_of_the_lifecycle() -> None:
    runs = [replace(RUN, status=RunStatus.FAILED), RUN, RUN]

    assert run_screens.count_line(runs) == "2 COMPLETED, 1 FAILED"


def test_a_snapshot_for_json_has_its_duration_in_seconds() -> None:
    assert run_screens.as_dict(RUN)["duration_seconds"] == 2.4
    assert "duration_seconds" not in run_screens.as_dict(Event(RUN_ID, 1, 0, EventType.RUN_CREATED, None))


def test_what_a_suspended_stage_waits_for_is_shown() -> None:
    suspension = Suspension("poll", {"batch_id": "b-42"}, {"customer": "x"}, None, 2, 1, None)
    stage = replace(
        STAGE,
        status=StageStatus.SUSPENDED,
        suspended_at=NOW - timedelta(hours=2),
        max_wait_until=NOW + timedelta(hours=22),
        suspension=suspension,
        completed_at=None,
    )

    text = rendered(run_screens.run_screen(RUN, [stage], now=NOW, width=120), 120)

    assert "extract waits since 2 hours ago, at most until" in text
    assert 'state     {"batch_id": "b-42"}' in text
    assert 'metadata  {"customer": "x"}' in text
    assert "2 polls failed in a row, 1 poll lost" in text


def test_a_stage_that_had_been_suspended_is_not_said_to_wait() -> None:
    stage = replace(STAGE, suspended_at=NOW, suspension=Suspension("poll", 1, None, None, 0, 0, None))

    assert "waits" not in rendered(run_screens.run_screen(RUN, [stage], now=NOW, width=120), 120)


def test_notes_tell_why_a_stage_does_not_begin() -> None:
    stage = replace(
        STAGE,
        status=StageStatus.PENDING,
        started_at=None,
        completed_at=None,
        mismatch_since=NOW - timedelta(minutes=3),
        queue_timeout_at=NOW + timedelta(minutes=2),
        redispatches=4,
        postponements=2,
    )
    owed = replace(STAGE, status=StageStatus.CANCELLED, cleanup_due_at=NOW, cleanup_attempts=1)
    shared = replace(STAGE, shared_from="01a2")

    text = rendered(run_screens.run_screen(RUN, [stage, owed, shared], now=NOW, width=240), 240)

    assert "no worker has its definition since 3 minutes ago, fails in 2 minutes unless claimed" in text
    assert "message lost 4×" in text  # noqa: RUF001 - a multiplication sign is meant
    assert "postponed 2×" in text  # noqa: RUF001 - same
    assert "owes a clean-up, tried 1×" in text  # noqa: RUF001 - same
    assert "shared" in text
