"""Which stage the current thread or task executes, for log lines of any library that a stage calls."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class ExecutedStage:
    """The stage run that is being executed or polled."""

    run_id: str
    stage_id: str
    attempt: int


_executed: ContextVar[ExecutedStage | None] = ContextVar("workflow_engine_executed_stage", default=None)


@contextmanager
def executing(stage: ExecutedStage) -> Iterator[None]:
    """Name the stage that this thread executes inside the block; threads that run in its context name it as well."""
    token = _executed.set(stage)
    try:
        yield
    finally:
        _executed.reset(token)


def executed_stage() -> ExecutedStage | None:
    """Return which stage the current thread or task executes."""
    return _executed.get()


class StageLogFilter(logging.Filter):
    """Gives every log record ``run_id``, ``stage_id`` and ``attempt``; they are "-" outside a stage.

    ```python
    handler.addFilter(StageLogFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s %(run_id)s %(stage_id)s %(attempt)s %(message)s"))
    ```
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; every record passes."""
        stage = _executed.get()
        record.run_id = stage.run_id if stage else "-"
        record.stage_id = stage.stage_id if stage else "-"
        record.attempt = stage.attempt if stage else "-"
        return True
