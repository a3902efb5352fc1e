"""The only writer of a status: every move of a run or stage run is one guarded statement of this module.

A move happens under the lock of the run's row (lock order: run, then its stage runs), appends its event in the same
transaction and keeps the counters of the live group. A guard that does not match is a normal, quiet outcome: somebody
else was first.

Source: the protocol is the checked one of this project (docs/semantics.md); the counter on the run row, instead of
counting members, is what makes the barrier right under READ COMMITTED.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import select, update

from workflow_engine.definition import StageRunOptions
from workflow_engine.errors import StoreError
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import ACTIVE_STAGE, RunStatus, StageStatus
from workflow_engine.payloads.text import encode_json
from workflow_engine.priorities import LOWEST_POLL_PRIORITY
from workflow_engine.store.connection.inserts import insert_or_ignore
from workflow_engine.store.moves.admission import admits, is_due
from workflow_engine.store.records import (
    LONGEST_TOLD,
    AttemptOutcome,
    ClaimKind,
    Hint,
    NewStageRun,
    StageFailure,
    StageRow,
)
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import attempts, events, runs, stages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection, RowMapping

    from workflow_engine.events import EventType
    from workflow_engine.lifecycle import Move

#: What a unit of work gets to write through: an open SQLAlchemy connection in a transaction.
Transaction = sa.Connection

_STAGE_COLUMNS = [stages.c[field.name] for field in fields(StageRow) if field.name in stages.c]
_FREE = {"lease_id": None, "lease_until": None}
#: A stage run that ended well shows no error; its attempts keep theirs.
_ENDED_WELL = (StageStatus.COMPLETED, StageStatus.SKIPPED)
_NO_ERROR = {"error_code": None, "error_type": None, "error_message": None, "error_traceback": None}
#: What a fork takes over of the stage runs whose outputs it shares.
_SHARED_COLUMNS = (
    "stage_id", "stage_name", "stage_number", "execution_group", "input_group", "dependencies", "status",
    "queue", "priority", "dispatch_priority", "output_id", "metrics", *(option.name for option in fields(StageRunOptions)),
)  # fmt: skip


class LockedRun:
    """A run whose row this transaction has locked, with everything that moves it or its stage runs.

    Call ``save`` once, last: it writes the run's changed columns and the events, in order.
    """

    def __init__(self, tx: Connection, row: RowMapping) -> None:
        self.tx = tx
        self.row = dict(row)
        #: The database's time, read after the lock was obtained.
        self.now: int = self.row.pop("locked_at")
        #: Whether it and its workflow let its stage runs be taken when it was locked.
        self.admits: bool = self.row.pop("admits")
        #: Messages to send after the commit.
        self.hints: list[Hint] = []
        #: Messages that would be welcome after so many milliseconds; the sweep sends them if nobody else does.
        self.later: list[tuple[Hint, int]] = []
        self._changes: dict[str, Any] = {}
        self._events: list[dict[str, Any]] = []

    @classmethod
    def find(cls, tx: Connection, run_id: str) -> LockedRun | None:
        """Lock the run's row and return it, or None when there is no such run."""
        locked = select(runs).where(runs.c.id == run_id).with_for_update().cte("locked")
        told = select(locked, now().label("locked_at"), admits(locked).label("admits"))
        row = tx.execute(told).mappings().first()
        return cls(tx, row) if row else None

    @classmethod
    def insert(cls, tx: Connection, values: Mapping[str, Any]) -> LockedRun | None:
        """Insert a PENDING run and return it locked; None, nothing written, when its id or idempotency key is taken."""
        row = {**values, "status": RunStatus.PENDING.value, "created_at": now(), "current_group": 1, "remaining": 0}
        statement = insert_or_ignore(tx, runs).values(row)
        locked = (runs.c.created_at.label("locked_at"), sa.true().label("admits"))
        found = tx.execute(statement.returning(*runs.c, *locked)).mappings().first()
        return cls(tx, found) if found else None

    @classmethod
    def of_stage_run(cls, tx: Connection, stage_run_id: str) -> LockedRun | None:
        """Lock the run that a stage run belongs to."""
        run_id = tx.scalar(select(stages.c.run_id).where(stages.c.id == stage_run_id))
        return cls.find(tx, run_id) if run_id else None

    @property
    def id(self) -> str:
        """Id of the run."""
        return str(self.row["id"])

    @property
    def status(self) -> RunStatus:
        """Stored status, the changes of this transaction included."""
        return RunStatus(self._value("status"))

    @property
    def is_live(self) -> bool:
        """Whether the run has not ended."""
        return not self.status.is_terminal

    @property
    def generation(self) -> int:
        """The present pass over the plan."""
        return int(self._value("generation"))

    @property
    def current_group(self) -> int:
        """Number of the live group."""
        return int(self._value("current_group"))

    @property
    def input_group(self) -> int:
        """Number of the group whose outputs are the live group's input."""
        return int(self._value("input_group"))

    @property
    def remaining(self) -> int:
        """Active stage runs of the live group."""
        return int(self._value("remaining"))

    @property
    def failed(self) -> int:
        """Failed stage runs of the live group."""
        return int(self._value("failed"))

    def cause(self) -> dict[str, Any]:
        """Return for an event why the run fails: code and message, and the stage that failed first if one did."""
        told = {"code": self._value("error_code"), "message": (self._value("error_message") or "")[:LONGEST_TOLD]}
        first = self._value("failed_stage_run_id")
        query = select(stages.c.stage_id).where(stages.c.id == first)
        return told if first is None else {**told, "failed_stage": self.tx.scalar(query)}

    def set(self, **values: Any) -> None:
        """Change columns of the run that are not its status."""
        self._changes.update(values)

    def record(self, event: EventType, stage_id: str | None = None, **payload: Any) -> None:
        """Append an event."""
        self._events.append(
            {
                "run_id": self.id,
                "sequence": self.row["event_sequence"] + len(self._events) + 1,
                "generation": self.generation,
                "type": event.value,
                "stage_id": stage_id,
                "payload": encode_json(payload, what="event") if payload else "{}",
                "created_at": self.now,
            }
        )

    def move(
        self, move: Move[RunStatus], event: EventType, payload: dict[str, Any] | None = None, **values: Any
    ) -> None:
        """Move the run and append ``event``; the row is locked, so an illegal move is a bug and raises."""
        if self.status not in move.sources:
            raise StoreError(f"Run {self.id} is {self.status}; the move {move.name} is not allowed")
        ended = {"completed_at": self.now if move.target.is_terminal else None}
        self._changes.update({"status": move.target.value, **ended, **values})
        self.record(event, **(payload or {}))

    def live_stage_runs(self, *, group: int | None = None, from_group: int = 1) -> list[StageRow]:
        """Read and lock the live stage runs of one group, or of all from a group on, in id order."""
        if group is not None:
            return self._stage_runs(stages.c.execution_group == group)
        return self._stage_runs(stages.c.execution_group >= from_group)

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

    def move_stage(self, move: Move[StageStatus], stage: StageRow, *, new_fence: bool = False, **values: Any) -> bool:
        """Move one stage run whose status and fence are still those of ``stage``; keep the group's counters.

        ``new_fence`` takes it away from whoever holds its lease: for moves that the holder did not make.
        Returns False, having changed nothing, when somebody else was first.
        """
        if stage.status not in move.sources:
            return False
        if move.target.is_terminal:
            values = {"completed_at": self.now, "next_poll_at": None, **values}
        if move.target in _ENDED_WELL:
            values = {**_NO_ERROR, **values}
        if move.target is not StageStatus.RUNNING:
            values = {**_FREE, **values}
        done = self.tx.execute(
            update(stages)
            .where(
                stages.c.id == stage.id,
                stages.c.fence == stage.fence,
                stages.c.status.in_([status.value for status in move.sources]),
            )
            .values(status=move.target.value, fence=stage.fence + 1 if new_fence else stage.fence, **values)
        )
        if done.rowcount != 1:
            return False
        if move.target.is_terminal and stage.is_live and stage.execution_group == self.current_group:
            self._changes["remaining"] = self.remaining - 1
            if move.target is StageStatus.FAILED:
                self._changes["failed"] = self.failed + 1
        return True

    def supersede(self, stage: StageRow) -> None:
        """Mark an ended stage run as history of the generations before this run's present one."""
        self.tx.execute(update(stages).where(stages.c.id == stage.id).values(superseded_by=self.generation))

    def change_stage(self, stage: StageRow, **values: Any) -> None:
        """Change columns of a stage run that are not its status."""
        self.tx.execute(update(stages).where(stages.c.id == stage.id).values(**values))

    def close_attempt(
        self, stage_run_id: str, fence: int, outcome: AttemptOutcome, failure: StageFailure | None = None
    ) -> None:
        """Record how the claim with that fence ended, unless that is recorded already."""
        error = failure.columns if failure else {}
        self.tx.execute(
            update(attempts)
            .where(attempts.c.stage_run_id == stage_run_id, attempts.c.fence == fence, attempts.c.outcome.is_(None))
            .values(outcome=outcome.value, ended_at=self.now, **error)
        )

    def record_callback(
        self,
        stage: StageRow,
        outcome: AttemptOutcome,
        *,
        actor: str,
        nonce: str,
        failure: StageFailure | None = None,
    ) -> None:
        """Record an outcome that a callback told: an attempt of no length, with the next fence."""
        self.tx.execute(
            attempts.insert().values(
                stage_run_id=stage.id,
                fence=stage.fence + 1,
                kind=ClaimKind.CALLBACK.value,
                attempt=stage.attempt,
                lease_id=nonce,
                worker_id=actor,
                started_at=self.now,
                ended_at=self.now,
                outcome=outcome.value,
                **(failure.columns if failure else {}),
            )
        )

    def add_group(self, number: int, new: Sequence[NewStageRun], *, start_after: int | None = None) -> None:
        """Insert the stage runs of group ``number`` as the live group and remember to dispatch them.

        ``start_after`` (an instant) keeps them waiting; an instant in the past means now.
        """
        self.set(current_group=number, remaining=len(new), failed=0)
        available_at = max(self.now, start_after or self.now)
        self.tx.execute(stages.insert(), [self._new_stage_run(stage, available_at) for stage in new])
        hints = [Hint(stage.id, 1, self.id, stage.stage_id, stage.queue, self.row["priority"]) for stage in new]
        if available_at == self.now:
            self.hints.extend(hints)
        else:
            self.later.extend((hint, available_at - self.now) for hint in hints)

    def share_outputs(self, rows: Sequence[RowMapping]) -> None:
        """Insert copies of another run's ended stage runs that share its outputs: the past of a fork."""
        for row in rows:
            copy = {name: row[name] for name in _SHARED_COLUMNS}
            own = {"id": new_id(), "run_id": self.id, "generation": self.generation, "created_at": self.now}
            ended = {"available_at": self.now, "dispatched_at": self.now, "completed_at": self.now}
            producer = row["shared_from"] or row["id"]
            self.tx.execute(stages.insert().values(**copy, **own, **ended, shared_from=producer))

    def _new_stage_run(self, stage: NewStageRun, available_at: int) -> dict[str, Any]:
        planned = asdict(stage)
        timeout = planned.pop("queue_timeout_ms")
        return {
            **planned,
            "run_id": self.id,
            "input_group": self.input_group,
            "generation": self.generation,
            "status": StageStatus.PENDING.value,
            "priority": self.row["priority"],
            "dispatch_priority": self.row["priority"],
            "available_at": available_at,
            "dispatched_at": self.now,
            "queue_timeout_at": None if timeout is None else available_at + timeout,
            "created_at": self.now,
        }

    def dispatch(self, stage: StageRow, *, priority: int | None = None) -> None:
        """Give a waiting stage run a new dispatch number and remember to send its message, by default at its priority."""
        priority = stage.priority if priority is None else priority
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
        self.hints.append(Hint(stage.id, stage.dispatch_number + 1, self.id, stage.stage_id, stage.queue, priority))

    def dispatch_poll(self, stage: StageRow, delay_ms: int = 0) -> None:
        """Like ``dispatch``, or ``dispatch_later`` where there is a delay, for a stage run that is to be polled."""
        priority = max(stage.priority, LOWEST_POLL_PRIORITY)
        if delay_ms == 0:
            self.dispatch(stage, priority=priority)
        else:
            self.later.append((replace(self.hint_of(stage), priority=priority), delay_ms))

    def dispatch_later(self, stage: StageRow, delay_ms: int) -> None:
        """Remember that a message for this waiting stage run would be welcome after ``delay_ms``."""
        self.later.append((self.hint_of(stage), delay_ms))

    def hint_of(self, stage: StageRow) -> Hint:
        """Return the message that the stage run was last dispatched with."""
        return Hint(stage.id, stage.dispatch_number, self.id, stage.stage_id, stage.queue, stage.priority)

    def save(self) -> None:
        """Write the run's changes and its events."""
        if self._events:
            self._changes["event_sequence"] = self.row["event_sequence"] + len(self._events)
        if self._changes:
            self.tx.execute(update(runs).where(runs.c.id == self.id).values(**self._changes))
        if self._events:
            self.tx.execute(events.insert(), self._events)

    def _value(self, column: str) -> Any:
        return self._changes.get(column, self.row[column])


def _stage_row(row: RowMapping) -> StageRow:
    values = dict(row)
    values["status"] = StageStatus(values["status"])
    return StageRow(**values)
