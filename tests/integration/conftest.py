"""Clocks and dispatchers for tests that put rooms together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.records import Hint


class TurnedClock:
    """A clock that is turned instead of waited for, together with the clock of a SQLite database."""

    def __init__(self) -> None:
        self.database: Database | None = None
        self.elapsed = timedelta(0)
        self.sleeps: list[timedelta] = []

    def now(self) -> datetime:
        return datetime(2025, 1, 1, tzinfo=UTC) + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed.total_seconds()

    def sleep(self, duration: timedelta) -> None:
        self.sleeps.append(duration)
        self.elapsed += duration
        if self.database is not None:
            self.database.skew += duration


class SilentDispatcher:
    """A broker that loses everything and remembers what it lost."""

    def __init__(self) -> None:
        self.lost: list[Hint] = []

    def dispatch(self, hints: Sequence[Hint]) -> None:
        self.lost.extend(hints)

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        pass

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]] | None:
        return set(lists)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def silent() -> SilentDispatcher:
    return SilentDispatcher()
