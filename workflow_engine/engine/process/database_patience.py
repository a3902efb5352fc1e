"""Waiting for a database that is away, where giving up would lose work that was done."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from workflow_engine.errors import DatabaseTimeoutError, DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.engine.process.engine import Engine

logger = logging.getLogger("workflow_engine.engine")
T = TypeVar("T")

#: The engine's own database did not answer, or not in time: no fault of the code that asked it.
ABSENCES: tuple[type[Exception], ...] = (DatabaseUnavailableError, DatabaseTimeoutError)

#: The longest absence after which an outcome is still recorded. While the database is away no other worker can take the
#: stage run, and after an absence the sweep gives live workers one lease before it takes anything back.
PATIENCE_OF_OUTCOMES = timedelta(minutes=10)
#: The longest absence that a body does not notice when it reads an output or an artifact.
PATIENCE_OF_BODIES = timedelta(minutes=1)
_FIRST_PAUSE = timedelta(milliseconds=200)
_LONGEST_PAUSE = timedelta(seconds=2)


def patiently(
    engine: Engine,
    what: str,
    call: Callable[[], T],
    *,
    longest: timedelta,
    absences: tuple[type[Exception], ...] = (DatabaseUnavailableError,),
) -> T:
    """Call until the database answers, with growing pauses, for ``longest`` at most; ``call`` must be idempotent.

    Raises:
        DatabaseUnavailableError: It was away all the time.
    """
    give_up_at = engine.clock.monotonic() + longest.total_seconds()
    pause = _FIRST_PAUSE
    while True:
        try:
            return call()
        except absences as error:
            if engine.clock.monotonic() >= give_up_at:
                raise
            level = logging.WARNING if pause is _FIRST_PAUSE else logging.DEBUG
            logger.log(level, "%s waits for the database: %s", what, error)
        engine.clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE, engine.settings.lease / 4)
