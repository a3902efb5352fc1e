"""Time outside the database: an injected clock, so that tests never sleep.

Leases and due times are the database's own clock (``workflow_now()``), never this one.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

#: Instants that a database row and a message can carry: years 1 to 9998, so that adding a wait never overflows.
MAX_INSTANT: Final = datetime(9998, 12, 31, tzinfo=UTC)
#: Longer waits are mistakes, and would leave the range of instants.
LONGEST_DURATION: Final = timedelta(days=36_500)

_SLICE_SECONDS = 0.5


class Clock(Protocol):
    """The time as the engine asks for it."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""

    def sleep(self, duration: timedelta) -> None:
        """Wait for ``duration``."""


class SystemClock:
    """The host's clock."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the clock

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    def sleep(self, duration: timedelta) -> None:
        """Wait for ``duration`` in slices: a time limit reaches a thread, and a body in it, only in between.

        An event instead of time.sleep, which a signal handler cannot disturb.
        """
        end, never = time.monotonic() + duration.total_seconds(), threading.Event()
        while (left := end - time.monotonic()) > 0:
            never.wait(min(left, _SLICE_SECONDS))


def find_duration_problem(duration: timedelta, *, zero: bool = False) -> str | None:
    """Say which bound a duration breaks; None where it breaks none.

    Args:
        duration: The duration.
        zero: Whether it may be zero; it is never negative.
    """
    if duration < timedelta(0) or (duration == timedelta(0) and not zero):
        return f"must be {'zero or more' if zero else 'more than zero'}, got {duration}"
    if duration > LONGEST_DURATION:
        return f"must be at most {LONGEST_DURATION.days:,} days, got {duration.days:,}"
    return None


def to_milliseconds(duration: timedelta) -> int:
    """Return ``duration`` in whole milliseconds, rounded up, so that a wait is never shorter than asked."""
    return -(-duration // timedelta(milliseconds=1))


def instant_to_ms(instant: datetime) -> int:
    """Return ``instant`` as milliseconds since the epoch.

    Raises:
        ValueError: ``instant`` is naive or out of range.
    """
    if instant.tzinfo is None:
        raise ValueError(f"{instant!r} has no time zone; instants are aware datetimes")
    if instant > MAX_INSTANT:
        raise ValueError(f"{instant!r} is later than {MAX_INSTANT.isoformat()}")
    return round((instant - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def ms_to_instant(milliseconds: int) -> datetime:
    """Return the aware UTC instant of ``milliseconds`` since the epoch."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
