"""The port through which the engine sends hints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import timedelta

    from workflow_engine.store.records import Hint


class Dispatcher(Protocol):
    """Carries hints to workers. Nothing depends on their arrival: the sweep sends those again that were lost."""

    def dispatch(self, hints: Sequence[Hint]) -> None:
        """Send the hints; never raises and never blocks for long. Called after the commit."""

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        """Send the hint after ``delay`` if this process is still there; an optimisation over the sweep."""

    def terminate(self, hints: Sequence[Hint]) -> None:
        """End the processes that execute the stage runs of these hints, where that can be done; never raises."""

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]] | None:
        """Return which of the (queue, priority) lists hold no message now; None when the broker cannot be asked."""
