"""Logs and events of a run while it goes on: what is there, then what is new, until the run has ended."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow_engine.events import Event
    from workflow_engine.facade.runtime import WorkflowRuntime
    from workflow_engine.store.reads.snapshots import LogEntry

_PAUSE: Final = timedelta(milliseconds=500)


def follow_events(
    runtime: WorkflowRuntime, run_id: str, *, after_sequence: int = 0, follow: bool = False
) -> Iterator[Event]:
    """Yield the events of a run after a sequence number; with ``follow``, also later ones until the run has ended."""
    while True:
        has_ended = _has_ended(runtime, run_id)
        events = runtime.list_events(run_id, after_sequence=after_sequence)
        for event in events:
            yield event
            after_sequence = event.sequence
        if not events:
            if has_ended or not follow:
                return
            runtime.clock.sleep(_PAUSE)


def follow_logs(
    runtime: WorkflowRuntime, run_id: str, *, stage: str | None = None, history: bool = False, follow: bool = False
) -> Iterator[LogEntry]:
    """Yield the log of a run, or of one stage; with ``follow``, also later lines until the run has ended.

    With ``history`` the lines of stage runs that reruns replaced come, too.
    """
    after: str | None = None
    seen: set[tuple[str, int, int]] = set()
    while True:
        has_ended = _has_ended(runtime, run_id)
        page = runtime.list_logs(run_id, stage, history=history, after=after)
        for entry in page.items:
            key = (entry.stage_run_id, entry.fence, entry.line)
            if key not in seen:
                seen.add(key)
                yield entry
        if page.next_cursor is not None:
            after, seen = page.next_cursor, set()
        elif has_ended or not follow:
            return
        else:
            runtime.clock.sleep(_PAUSE)


def _has_ended(runtime: WorkflowRuntime, run_id: str) -> bool:
    """Tell whether a run has ended. Asked before its entries are read: those written just before the end are read too."""
    return runtime.get_run(run_id).snapshot().status.is_terminal
