"""The engine's side of ``ContextPort``: what the methods of a context do. One for each execution."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from workflow_engine.clock import instant_to_ms
from workflow_engine.definition import ChildRun, StoredOutput
from workflow_engine.engine.commands.callback_tokens import make_token
from workflow_engine.engine.commands.create_run import CreateRun, create_run
from workflow_engine.engine.process.database_patience import PATIENCE_OF_BODIES, patiently
from workflow_engine.engine.transitions.unit_of_work import with_stage_run
from workflow_engine.errors import DatabaseTimeoutError, DatabaseUnavailableError
from workflow_engine.events import EventType
from workflow_engine.ids import id_of
from workflow_engine.payloads.secrets import clean_text
from workflow_engine.payloads.text import decode_json, encode_json
from workflow_engine.store.moves.attempt_reports import flush_log_lines
from workflow_engine.store.moves.claims import read_outputs
from workflow_engine.store.moves.leases import is_held
from workflow_engine.store.reads import artifacts
from workflow_engine.store.records import LogLine, NewAnnotation, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from workflow_engine.definition import ChildRequest
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.engine.process.lease_keeper import HeldLease
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Claim, StageFailure, StageRow

T = TypeVar("T")

#: What the database may do while a body runs that is no reason to fail.
_ABSENCES = (DatabaseUnavailableError, DatabaseTimeoutError)
#: Lines that are buffered before they are written while the body still runs.
_LOG_BATCH = 200
#: Progress events of one attempt that are written at once; later ones at most once a second.
_FREE_PROGRESS = 20
#: ``ctx.cancelled`` asks the database at most this often.
_SECONDS_BETWEEN_CHECKS = 1.0
_NANOS = Decimal(1_000_000_000)
#: More in one attempt is a mistake, and many of them would leave the range of a column.
_MOST_COST = Decimal(100_000_000)
_MOST_TOKENS = 10**15


class ContextServices:
    """Buffers what is committed with the outcome; writes at once what should be seen before it."""

    def __init__(self, engine: Engine, claim: Claim, held: HeldLease) -> None:
        self._engine = engine
        self._claim = claim
        self._held = held
        self._lock = threading.RLock()
        self._outputs = dict(claim.outputs)
        self._lines: list[LogLine] = []
        self._line_count = 0
        self._flush_at = _LOG_BATCH
        self._annotations: list[NewAnnotation] = []
        self._cost = Decimal(0)
        self._tokens = 0
        self._metrics: dict[str, float] = decode_json(claim.metrics)
        self._has_new_metrics = False
        self._progress_count = 0
        self._last_progress = 0.0
        self._last_fraction = 0.0
        self._last_check = engine.clock.monotonic()

    def output_of(self, stage_id: str) -> StoredOutput:
        """Return what is recorded of a stage of an earlier group; asked of the database once."""
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
        """Buffer a log line; every couple of hundred the buffer is written."""
        redactor = self._engine.redactor
        with self._lock:
            self._line_count += 1
            limit = self._engine.settings.max_log_lines
            if self._line_count > limit:
                return
            self._lines.append(
                LogLine(
                    line=self._line_count,
                    level=level,
                    message=redactor.text(message),
                    fields=encode_json(redactor.value(dict(fields)), what="log fields") if fields else "{}",
                    created_at=instant_to_ms(self._engine.clock.now()),
                )
            )
            if len(self._lines) < self._flush_at:
                return
            lines, self._lines = self._lines, []
        try:
            self._engine.database.transact(lambda tx: flush_log_lines(tx, self._claim, lines))
            self._flush_at = _LOG_BATCH
        except _ABSENCES:
            # A short outage is no reason to fail: they are written with the next batch, or with the outcome.
            with self._lock:
                self._lines = lines + self._lines
                self._flush_at = len(self._lines) + _LOG_BATCH

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

        with suppress(*_ABSENCES):  # progress is for who watches: not worth failing for
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
            with suppress(*_ABSENCES):  # nobody knows; the lease's own end tells
                if not is_held(self._engine.database, self._claim.lease):
                    self._held.lost.set()
        return self._held.lost.is_set()

    def annotate(self, key: str, value: object) -> None:
        """Buffer an annotation."""
        limit = self._engine.settings.max_metadata_bytes
        text = encode_json(value, what=f'annotation "{key}"', max_bytes=limit)
        with self._lock:
            self._annotations.append(NewAnnotation(key, text))

    def report(self, cost: Decimal, tokens: int, metrics: Mapping[str, float]) -> None:
        """Add to cost, tokens and metrics; raises ValueError, having added nothing, where no column could hold the sum."""
        with self._lock:
            sums = {name: self._metrics.get(name, 0.0) + value for name, value in metrics.items()}
            if self._cost + cost > _MOST_COST or self._tokens + tokens > _MOST_TOKENS:
                raise ValueError(f"an attempt reports a cost of at most {_MOST_COST} and {_MOST_TOKENS} tokens")
            if not all(map(math.isfinite, sums.values())):
                raise ValueError(f"metrics must stay finite, got {sums}")
            self._cost += cost
            self._tokens += tokens
            self._metrics |= sums
            self._has_new_metrics = self._has_new_metrics or bool(sums)

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
        """Create a child run; the key makes it one, whichever execution asks."""
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

    def take_report(self, failure: StageFailure | None = None, *, title: str = "") -> Report:
        """Return, and forget, what is to be committed with the outcome.

        Args:
            failure: How the attempt failed; the last line of its log, which no limit drops.
            title: How that line begins, e.g. ``attempt 2 failed``.
        """
        with self._lock:
            dropped = self._line_count - self._engine.settings.max_log_lines
            if dropped > 0:
                self._lines.append(self._note_of_dropped(dropped))
            if failure is not None:
                self._lines.append(self._line_of_failure(failure, title))
            report = Report(
                cost_nanos=int((self._cost * _NANOS).to_integral_value()),
                tokens=self._tokens,
                metrics=encode_json(self._metrics, what="metrics") if self._has_new_metrics else None,
                logs=tuple(self._lines),
                annotations=tuple(self._annotations),
            )
            self._lines = []
            return report

    def _patiently(self, call: Callable[[Database], T]) -> T:
        """Wait for a database that is away for moments: the body is not to fail for what it did not do."""
        claim = self._claim
        what = f"stage {claim.stage_id} of run {claim.run_id}"
        return patiently(self._engine, what, lambda: call(self._engine.database), longest=PATIENCE_OF_BODIES)

    def _line_of_failure(self, failure: StageFailure, title: str) -> LogLine:
        return LogLine(
            line=self._line_count + 1,
            level="error",
            message=clean_text(f"{title}: {failure.headline}\n{failure.traceback}".rstrip()),
            fields=encode_json({"code": failure.code.value}, what="log fields"),
            created_at=instant_to_ms(self._engine.clock.now()),
        )

    def _note_of_dropped(self, dropped: int) -> LogLine:
        return LogLine(
            line=self._line_count,
            level="warning",
            message=f"{dropped} more lines were dropped: an attempt keeps {self._engine.settings.max_log_lines}",
            fields="{}",
            created_at=instant_to_ms(self._engine.clock.now()),
        )
