"""The engine's Dispatcher on Celery: hints become messages, and nobody waits for a broker that is down."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from workflow_engine.worker import messages
from workflow_engine.worker.broker_link import BrokerLink
from workflow_engine.worker.depths import count_lists, count_queues
from workflow_engine.worker.priorities import priority_step
from workflow_engine.worker.timers import DueTimers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta

    from celery import Celery

    from workflow_engine.settings import Settings
    from workflow_engine.store.records import Hint

Answer = TypeVar("Answer")

logger = logging.getLogger("workflow_engine.dispatcher")

#: After a failure, hints are dropped for this long instead of each waiting for its own timeout.
PAUSE_SECONDS: Final = 1.0


class CeleryDispatcher:
    """Publishes hints to the broker of an app. Safe to use from many threads and across forks.

    Args:
        app: Its broker and transport options are used, read at the first dispatch.
        settings: For the sweep interval, which bounds ``dispatch_later``.
        monotonic: The clock that outages are measured by.
    """

    def __init__(self, app: Celery, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._link = BrokerLink(app)
        self._timers = DueTimers(self.dispatch, longest=settings.sweep_interval * 2)
        self._monotonic = monotonic
        self._failing = False
        self._silent_until = float("-inf")

    def dispatch(self, hints: Sequence[Hint]) -> None:
        """Send the hints; never raises. What cannot be sent now is found by the sweep."""
        if not hints or self._monotonic() < self._silent_until:
            return
        try:
            self._link.publish([(messages.body(hint), messages.publish_options(hint)) for hint in hints])
        except Exception as error:  # noqa: BLE001 - the work is committed: a broker that is down must not undo it
            self._note_failure(error)
        else:
            self._note_success()

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        """Send the hint after ``delay`` from a thread of this process, unless the sweep comes first anyway."""
        self._timers.add(hint, delay)

    def terminate(self, hints: Sequence[Hint]) -> None:
        """Ask the workers to kill the pool processes that execute these hints; pools of threads cannot."""
        try:
            self._app.control.revoke([messages.task_id(hint) for hint in hints], terminate=True, signal="SIGKILL")
        except Exception as error:  # noqa: BLE001 - the run is cancelled already, its body only goes on for nobody
            logger.warning("The workers cannot be asked to end %d executions: %s", len(hints), error)

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]] | None:
        """Return which (queue, priority) lists hold no message now; None when the broker cannot be asked."""
        steps = {(queue, priority_step(priority)) for queue, priority in lists}
        counts = self._ask(lambda channel: count_lists(channel, steps))
        if counts is None:
            return None
        return {(queue, priority) for queue, priority in lists if counts[queue, priority_step(priority)] == 0}

    def depths(self, queues: Collection[str]) -> dict[str, int] | None:
        """Return how many messages wait in each queue; None when the broker cannot be asked."""
        return self._ask(lambda channel: count_queues(channel, queues))

    def close(self) -> None:
        """Drop pending timers and close the connection."""
        self._timers.stop()
        self._link.close()

    def _ask(self, question: Callable[[Any], Answer]) -> Answer | None:
        try:
            with self._link.channel() as channel:
                return question(channel)
        except Exception as error:  # noqa: BLE001 - asking is an optimisation
            self._note_failure(error)
            return None

    def _note_failure(self, error: Exception) -> None:
        self._silent_until = self._monotonic() + PAUSE_SECONDS
        if not self._failing:
            self._failing = True
            logger.warning("The broker cannot be reached (%s): hints are dropped, the sweep will send them", error)

    def _note_success(self) -> None:
        if self._failing:
            self._failing = False
            logger.info("The broker can be reached again")
