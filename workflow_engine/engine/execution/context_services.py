"""The engine's side of ``ContextPort``, which the methods of a context call. One for each execution."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from workflow_engine.definition import ChildRun, StoredOutput
from workflow_engine.engine.commands.callback_tokens import make_token
from workflow_engine.engine.commands.create_run import CreateRun, create_run
from workflow_engine.engine.execution.report_buffer import ReportBuffer
from workflow_engine.engine.process.database_patience import ABSENCES, PATIENCE_OF_BODIES, patiently
from workflow_engine.engine.transitions.unit_of_work import with_stage_run
from workflow_engine.events import EventType
from workflow_engine.ids import id_of
from workflow_engine.store.moves.attempt_reports import flush_log_lines
from workflow_engine.store.moves.claims import read_outputs
from workflow_engine.store.moves.leases import is_held
from workflow_engine.store.reads import artifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from decimal import Decimal

    from workflow_engine.definition import ChildRequest
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.engine.process.lease_keeper import HeldLease
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Claim, StageRow

T = TypeVar("T")

#: Progress events of one attempt that are written at once; later ones at most once a second.
_FREE_PROGRESS = 20
#: ``ctx.cancelled`` asks the database at most this often.
_SECONDS_BETWEEN_CHECKS = 1.0


class ContextServices:
    """Writes at once the values that others should see before the outcome; ``buffer`` keeps the others for it."""

    def __init__(self, engine: Engine, claim: Claim, held: HeldLease) -> None:
        self._engine = engine
        self._claim = claim
        self._held = held
        self._lock = threading.RLock()
        self._outputs = dict(claim.outputs)
        self.buffer = ReportBuffer(engine, claim.metrics)
        self._progress_count = 0
        self._last_progress = 0.0
        self._last_fraction = 0.0
        self._last_check = engine.clock.monotonic()

    def output_of(self, stage_id: str) -> StoredOutput:
        """Return the recorded output of a stage of an earlier group; the database is asked once for each."""
        with self._lock:
            if stage_id not in self._outputs:
                found = self._patiently(
                    lambda database: database.read(
                        lambda tx: read_outputs(tx, self._claim.run_id, stage_ids=[stage_id])
                    )
                ).get(stage_id)
                # A sibling's output may be there or not by chance, and would make a retry differ from the first try.
                is_earlier = found is not None and found.execution_group < self._claim.execution_group
                self._outputs[stage_id] = found if found and is_earlier else StoredOutput(None, None)
            return self._outputs[stage_id]

    def write_log(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        """Keep a log line; every couple of hundred are written."""
        lines = self.buffer.add_line(level, message, fields)
        if not lines:
            return
        try:
            self._engine.database.transact(lambda tx: flush_log_lines(tx, self._claim, lines))
        except ABSENCES:
            self.buffer.put_back(lines)

    def report_progress(self, fraction: float, message: str | None, details: Mapping[str, object]) -> None:
        """Append a progress event, unless the last one was a moment ago."""
        now = self._engine.clock.monotonic()
        with self._lock:
            self._progress_count += 1
            is_end = fraction == 1 and self._last_fraction != 1
            if self._progress_count > _FREE_PROGRESS and not is_end and now - self._last_progress < 1:
                return
            self._last_progress = now
            self._last_fraction = fraction
        payload = self._engine.redactor.value({"fraction": fraction, "message": message, "details": dict(details)})

        def act(run: LockedRun, stage: StageRow) -> None:
            if stage.fence == self._claim.fence and stage.lease_id is not None:
                run.record(EventType.STAGE_PROGRESS, stage.stage_id, **payload)

        with suppress(*ABSENCES):  # progress is only shown: not worth failing for
            with_stage_run(self._engine, self._claim.stage_run_id, act)

    def is_cancelled(self) -> bool:
        """Whether this execution's lease is gone: cancelled, reaped, timed out or superseded."""
        if self._held.was_told or self._is_lost():
            self._held.was_told = True
        return self._held.was_told

    def _is_lost(self) -> bool:
        if self._held.lost.is_set():
            return True
        now = self._engine.clock.monotonic()
        if now - self._last_check >= _SECONDS_BETWEEN_CHECKS:
            self._last_check = now
            with suppress(*ABSENCES):  # unknown now; it is known at the end of the lease at the latest
                if not is_held(self._engine.database, self._claim.lease):
                    self._held.lost.set()
        return self._held.lost.is_set()

    def annotate(self, key: str, value: object) -> None:
        """Keep an annotation."""
        self.buffer.annotate(key, value)

    def report(self, cost: Decimal, tokens: int, metrics: Mapping[str, float]) -> None:
        """Add to cost, tokens and metrics; raises ValueError where no column could hold the sum."""
        self.buffer.add(cost, tokens, metrics)

    def save_artifact(self, key: str, payload: str, *, shared: bool) -> None:
        """Store an artifact, if the lease is still held."""
        self._patiently(lambda database: artifacts.save_artifact(database, self._claim, key, payload, shared=shared))

    def load_artifact(self, key: str, *, shared: bool) -> str | None:
        """Return an artifact's JSON text."""
        return self._patiently(lambda database: artifacts.load_artifact(database, self._claim, key, shared=shared))

    def delete_artifact(self, key: str, *, shared: bool) -> bool:
        """Remove an artifact, if the lease is still held."""
        return self._patiently(lambda database: artifacts.delete_artifact(database, self._claim, key, shared=shared))

    def list_artifacts(self, prefix: str, *, shared: bool) -> list[str]:
        """Return the keys that begin with ``prefix``."""
        return self._patiently(
            lambda database: artifacts.list_artifact_keys(database, self._claim, prefix, shared=shared)
        )

    def create_run(self, request: ChildRequest) -> ChildRun:
        """Create a child run; its key makes it the same run whichever execution of the stage asks."""
        child = CreateRun(
            workflow=request.workflow,
            input=request.input,
            config=request.config,
            priority=request.priority,
            metadata=request.metadata,
            idempotency_key=request.idempotency_key,
            deadline=request.deadline,
            start_after=request.start_after,
            parent_run_id=self._claim.run_id,
            parent_stage_run_id=self._claim.stage_run_id,
        )
        created = self._patiently(lambda _: create_run(self._engine, child))
        return ChildRun(created.run_id, id_of(request.workflow), is_new=created.is_new)

    def make_callback_token(self, valid_for: timedelta) -> str:
        """Return a token of the claimed stage run; nothing is written, so it is good before the outcome is recorded."""
        return make_token(self._engine, self._claim.stage_run_id, valid_for=valid_for)

    def _patiently(self, call: Callable[[Database], T]) -> T:
        """Wait for a database that is away for moments, which is no fault of the body."""
        claim = self._claim
        what = f"stage {claim.stage_id} of run {claim.run_id}"
        return patiently(self._engine, what, lambda: call(self._engine.database), longest=PATIENCE_OF_BODIES)
