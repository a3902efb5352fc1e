from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from workflow_engine.cli.screens.follow import follow_events, follow_logs
from workflow_engine.events import Event, EventType
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.reads.snapshots import LogEntry, Page

NOW = datetime(2030, 6, 1, tzinfo=UTC)


class GrowingRun:
    """A runtime whose one run writes a line and an event whenever somebody sleeps, and ends after the third."""

    def __init__(self, page_size: int = 100) -> None:
        self.page_size = page_size
        self.written = 1
        self.clock = SimpleNamespace(sleep=self.go_on)

    def go_on(self, _: timedelta) -> None:
        self.written += 1

    def get_run(self, _: str) -> Any:
        status = RunStatus.COMPLETED if self.written == 3 else RunStatus.RUNNING
        return SimpleNamespace(snapshot=lambda: SimpleNamespace(status=status))

    def list_logs(self, run_id: str, stage: str | None, *, history: bool, after: str | None) -> Page[LogEntry]:
        assert not history
        begin = int(after or 0)
        end = min(begin + self.page_size, self.written)
        lines = [LogEntry(run_id, "1", "a", 1, 1, n, "info", f"line {n}", {}, NOW) for n in range(begin, end)]
        return Page(tuple(lines), str(end) if end < self.written else None)

    def list_events(self, run_id: str, *, after_sequence: int) -> list[Event]:
        return [Event(run_id, n, 0, EventType.STAGE_PROGRESS, "a") for n in range(after_sequence + 1, self.written + 1)]


def test_a_log_is_followed_to_the_end_of_the_run_without_saying_a_line_twice() -> None:
    runtime: Any = GrowingRun()

    assert [entry.line for entry in follow_logs(runtime, "r", follow=True)] == [0, 1, 2]


def test_a_log_of_many_pages_is_read_page_by_page() -> None:
    runtime: Any = GrowingRun(page_size=1)

    assert [entry.line for entry in follow_logs(runtime, "r", follow=True)] == [0, 1, 2]


def test_events_are_followed_to_the_end_of_the_run() -> None:
    runtime: Any = GrowingRun()

    assert [event.sequence for event in follow_events(runtime, "r", follow=True)] == [1, 2, 3]


def test_without_following_only_what_is_there_is_told() -> None:
    runtime: Any = GrowingRun()

    assert [entry.line for entry in follow_logs(runtime, "r")] == [0]
    assert [event.sequence for event in follow_events(runtime, "r")] == [1]
