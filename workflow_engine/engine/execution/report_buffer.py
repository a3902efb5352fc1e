"""The report of an attempt while its body runs: log lines, annotations, cost and metrics, kept for its outcome."""

from __future__ import annotations

import math
import threading
from decimal import Decimal
from typing import TYPE_CHECKING

from workflow_engine.clock import instant_to_ms
from workflow_engine.payloads.secrets import clean_text
from workflow_engine.payloads.text import decode_json, encode_json
from workflow_engine.store.records import LogLine, NewAnnotation, Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.records import StageFailure

#: Lines that are kept before they are written while the body still runs.
_LOG_BATCH = 200
_NANOS = Decimal(1_000_000_000)
#: More in one attempt is a mistake, and many of them would leave the range of a column.
_MOST_COST = Decimal(100_000_000)
_MOST_TOKENS = 10**15


class ReportBuffer:
    """All threads of a body may add to it. ``metrics`` is the JSON text of those that the stage run has already."""

    def __init__(self, engine: Engine, metrics: str) -> None:
        self._engine = engine
        self._lock = threading.RLock()  # a value that is encoded may log
        self._lines: list[LogLine] = []
        self._line_count = 0
        self._flush_at = _LOG_BATCH
        self._annotations: list[NewAnnotation] = []
        self._cost = Decimal(0)
        self._tokens = 0
        self._metrics: dict[str, float] = decode_json(metrics)
        self._has_new_metrics = False

    def add_line(self, level: str, message: str, fields: Mapping[str, object]) -> list[LogLine]:
        """Add a line to the log; return the lines that should be written now, which are not kept any longer."""
        redactor = self._engine.redactor
        with self._lock:
            self._line_count += 1
            if self._line_count > self._engine.settings.max_log_lines:
                return []
            text = encode_json(redactor.value(dict(fields)), what="log fields") if fields else "{}"
            self._lines.append(self._line(self._line_count, level, redactor.text(message), text))
            if len(self._lines) < self._flush_at:
                return []
            self._flush_at = _LOG_BATCH
            lines, self._lines = self._lines, []
            return lines

    def put_back(self, lines: list[LogLine]) -> None:
        """Keep lines that could not be written: they go with the next batch, or with the outcome."""
        with self._lock:
            self._lines = lines + self._lines
            self._flush_at = len(self._lines) + _LOG_BATCH

    def annotate(self, key: str, value: object) -> None:
        """Add an annotation."""
        limit = self._engine.settings.max_metadata_bytes
        text = encode_json(value, what=f'annotation "{key}"', max_bytes=limit)
        with self._lock:
            self._annotations.append(NewAnnotation(key, text))

    def add(self, cost: Decimal, tokens: int, metrics: Mapping[str, float]) -> None:
        """Add to cost, tokens and metrics; raises ValueError, and adds nothing, where no column could hold the sum."""
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

    def take(self, failure: StageFailure | None = None, *, title: str = "") -> Report:
        """Return the report that is committed with the outcome; its log lines are not kept any longer.

        Args:
            failure: How the attempt failed; the last line of its log, which no limit drops.
            title: How that line begins, e.g. ``attempt 2 failed``.
        """
        with self._lock:
            lines, self._lines = self._lines, []
            limit = self._engine.settings.max_log_lines
            if (dropped := self._line_count - limit) > 0:
                note = f"{dropped} more lines were dropped: an attempt keeps {limit}"
                lines.append(self._line(self._line_count, "warning", note))
            if failure is not None:
                text = clean_text(f"{title}: {failure.headline}\n{failure.traceback}".rstrip())
                fields = encode_json({"code": failure.code.value}, what="log fields")
                lines.append(self._line(self._line_count + 1, "error", text, fields))
            return Report(
                cost_nanos=int((self._cost * _NANOS).to_integral_value()),
                tokens=self._tokens,
                metrics=encode_json(self._metrics, what="metrics") if self._has_new_metrics else None,
                logs=tuple(lines),
                annotations=tuple(self._annotations),
            )

    def _line(self, number: int, level: str, message: str, fields: str = "{}") -> LogLine:
        return LogLine(number, level, message, fields, created_at=instant_to_ms(self._engine.clock.now()))
