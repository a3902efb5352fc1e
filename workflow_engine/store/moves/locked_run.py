"""A run whose row this transaction has locked, and what the transaction has done to it so far.

The arrows (``run_moves``, ``stage_moves``) move it and its stage runs, ``changes`` changes what is no status, and
``new_rows`` inserts. Each of them works under this lock (lock order: run, then its stage runs), so that whatever was
read of the run or, by a method of this class, of its stage runs stays true until the transaction ends. The counters on
the run's row, instead of counting members, are what makes the barrier of a group right under READ COMMITTED.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import select, update

from workflow_engine.lifecycle import ACTIVE_STAGE, RunStatus, StageStatus
from workflow_engine.payloads.text import encode_json
from workflow_engine.priorities import LOWEST_POLL_PRIORITY
from workflow_engine.store.moves.admission import admits, is_due
from workflow_engine.store.records import LONGEST_TOLD, Hint, RunRow, StageRow
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import events, runs, stages

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, RowMapping

    from workflow_engine.events import EventType

#: What a unit of work gets to write through: an open SQLAlchemy connection in a transaction.
Transaction = sa.Connection

RUN_COLUMNS = [runs.c[field.name] for field in fields(RunRow)]
_STAGE_COLUMNS = [stages.c[field.name] for field in fields(StageRow) if field.name in stages.c]


class LockedRun:
    """A locked run. Call ``save`` once, last: it writes the run's changed columns and the events, in order."""

    def __init__(self, tx: Connection, row: RowMapping) -> None:
        values = dict(row)
        self.tx = tx
        #: The database's time, read after the lock was obtained.
        self.now: int = values.pop("locked_at")
        #: Whether it and its workflow let its stage runs be taken when it was locked.
        self.admits: bool = values.pop("admits")
        #: The run as this transaction has left it so far.
        self.row = RunRow(status=RunStatus(values.pop("status")), **values)
        #: Messages to send after the commit.
        self.hints: list[Hint] = []
        #: Messages that would be welcome after so many milliseconds; the sweep sends them if nobody else does.
        self.later: list[tuple[Hint, int]] = []
        self._was_live = self.is_live
        self._changed: set[str] = set()
        self._events: list[dict[str, Any]] = []

    @classmethod
    def find(cls, tx: Connection, run_id: str) -> LockedRun | None:
        """Lock the run's row and return it, or None when there is no such run."""
        locked = select(*RUN_COLUMNS).where(runs.c.id == run_id).with_for_update().cte("locked")
        told = select(locked, now().label("locked_at"), admits(locked).label("admits"))
        row = tx.execute(told).mappings().first()
        return cls(tx, row) if row else None

    @classmethod
    def of_stage_run(cls, tx: Connection, stage_run_id: str) -> LockedRun | None:
        """Lock the run that a stage run belongs to."""
        run_id = tx.scalar(select(stages.c.run_id).where(stages.c.id == stage_run_id))
        return cls.find(tx, run_id) if run_id else None

    @property
    def id(self) -> str:
        """Id of the run."""
        return self.row.id

    @property
    def status(self) -> RunStatus:
        """Stored status, the moves of this transaction included."""
        return self.row.status

    @property
    def is_live(self) -> bool:
        """Whether the run has not ended."""
        return not self.status.is_terminal

    @property
    def has_just_ended(self) -> bool:
        """Whether this transaction ended the run."""
        return self._was_live and not self.is_live

    @property
    def generation(self) -> int:
        """The present pass over the plan."""
        return self.row.generation

    @property
    def failed(self) -> int:
        """Failed stage runs of the live group."""
        return self.row.failed

    def cause(self) -> dict[str, Any]:
        """Return for an event why the run fails: code and message, and the stage that failed first if one did."""
        told = {"code": self.row.error_code, "message": (self.row.error_message or "")[:LONGEST_TOLD]}
        first = self.row.failed_stage_run_id
        query = select(stages.c.stage_id).where(stages.c.id == first)
        return told if first is None else {**told, "failed_stage": self.tx.scalar(query)}

    def change(self, **columns: Any) -> None:
        """Change columns of the run. For the functions of this room, whose parameters have types."""
        self.row = replace(self.row, **columns)
        self._changed |= columns.keys()

    def record(self, event: EventType, stage_id: str | None = None, **payload: Any) -> None:
        """Append an event."""
        self._events.append(
            {
                "run_id": self.id,
                "sequence": self.row.event_sequence + len(self._events) + 1,
                "generation": self.generation,
                "type": event.value,
                "stage_id": stage_id,
                "payload": encode_json(payload, what="event") if payload else "{}",
                "created_at": self.now,
            }
        )

    def live_stage_runs(self, *, group: int | None = None) -> list[StageRow]:
        """Read and lock the live stage runs of one group, or of all, in id order."""
        return self._stage_runs(*(() if group is None else (stages.c.execution_group == group,)))

    def active_stage_runs(self) -> list[StageRow]:
        """Read and lock the live stage runs that have not ended, in id order."""
        return self._stage_runs(stages.c.status.in_([status.value for status in ACTIVE_STAGE]))

    def _stage_runs(self, *conditions: sa.ColumnElement[bool]) -> list[StageRow]:
        query = (
            self._select_stage_runs()
            .where(stages.c.run_id == self.id, stages.c.superseded_by.is_(None), *conditions)
            .order_by(stages.c.id)
            .with_for_update()
        )
        return [_stage_row(row) for row in self.tx.execute(query).mappings()]

    def stage_run(self, stage_run_id: str) -> StageRow | None:
        """Read and lock one stage run of this run, superseded or not."""
        query = self._select_stage_runs().where(stages.c.id == stage_run_id, stages.c.run_id == self.id)
        row = self.tx.execute(query.with_for_update()).mappings().first()
        return _stage_row(row) if row else None

    def _select_stage_runs(self) -> sa.Select[Any]:
        return select(*_STAGE_COLUMNS, is_due(stages, self.now).label("is_due"))

    def dispatch(self, stage: StageRow, delay_ms: int = 0, *, priority: int | None = None) -> None:
        """Send for a worker, by default at the stage run's priority.

        At once: with a message of a new number. After a delay: the present message would be welcome again then.
        """
        priority = stage.priority if priority is None else priority
        if delay_ms > 0:
            self.later.append((replace(self.hint_of(stage), priority=priority), delay_ms))
            return
        self.tx.execute(
            update(stages)
            .where(stages.c.id == stage.id)
            .values(
                dispatched_at=self.now,
                dispatch_number=stages.c.dispatch_number + 1,
                dispatch_priority=priority,
                redispatches=0,
                claimed_dispatch_at=None,
            )
        )
        number = stage.dispatch_number + 1
        self.hints.append(replace(self.hint_of(stage), dispatch_number=number, priority=priority))

    def dispatch_poll(self, stage: StageRow, delay_ms: int = 0) -> None:
        """Like ``dispatch``, for a stage run that is to be polled."""
        self.dispatch(stage, delay_ms, priority=max(stage.priority, LOWEST_POLL_PRIORITY))

    def hint_of(self, stage: StageRow) -> Hint:
        """Return the message that the stage run was last dispatched with."""
        return Hint(stage.id, stage.dispatch_number, self.id, stage.stage_id, stage.queue, stage.priority)

    def save(self) -> None:
        """Write the run's changes and its events."""
        if self._events:
            self.change(event_sequence=self.row.event_sequence + len(self._events))
        if self._changed:
            changes = {name: getattr(self.row, name) for name in self._changed}
            self.tx.execute(update(runs).where(runs.c.id == self.id).values(changes))
        if self._events:
            self.tx.execute(events.insert(), self._events)


def _stage_row(row: RowMapping) -> StageRow:
    values = dict(row)
    return StageRow(status=StageStatus(values.pop("status")), **values)
