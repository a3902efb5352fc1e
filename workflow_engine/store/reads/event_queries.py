"""Reading a run's history of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from workflow_engine.arguments import MOST_ITEMS
from workflow_engine.events import Event, EventType, read_name
from workflow_engine.payloads.text import decode_json
from workflow_engine.store.reads.snapshots import from_row
from workflow_engine.store.schema.tables import events

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, RowMapping


def list_events(tx: Connection, run_id: str, *, after_sequence: int = 0, limit: int = MOST_ITEMS) -> list[Event]:
    """Read the events after a sequence number, in order; to follow a run, pass the last number that was seen."""
    query = (
        select(events)
        .where(events.c.run_id == run_id, events.c.sequence > after_sequence)
        .order_by(events.c.sequence)
        .limit(limit)
    )
    return [_event(row) for row in tx.execute(query).mappings()]


def find_rerun(tx: Connection, run_id: str, request: str) -> Event | None:
    """Read the rerun that a request led to; each rerun's event holds the key, or the nonce, of its request."""
    query = select(events).where(events.c.run_id == run_id, events.c.type == EventType.RUN_RERUN.value)
    reruns = map(_event, tx.execute(query).mappings())
    return next((rerun for rerun in reruns if rerun.payload.get("request") == request), None)


def _event(row: RowMapping) -> Event:
    return from_row(Event, row, type=read_name(EventType, row["type"]), payload=decode_json(row["payload"]))
