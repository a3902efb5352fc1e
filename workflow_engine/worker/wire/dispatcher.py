"""The engine's Dispatcher on Celery: hints become messages, and nobody waits for a broker that is down."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from workflow_engine.worker.wire import messages
from workflow_engine.worker.wire.broker_link import BrokerLink, check_usable
from workflow_engine.worker.wire.broker_watch import BrokerWatch
from workflow_engine.worker.wire.due_timers import DueTimers
from workflow_engine.worker.wire.queue_contents import count_lists, count_queues

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta

    from celery import Celery

    from workflow_engine.settings import Settings
    from workflow_engine.store.records import Hint

Answer = TypeVar("Answer")

logger = logging.getLogger("workflow_engine.dispatcher")


class CeleryDispatcher:
    """Publishes hints to the broker of an app. Safe to use from many threads and across forks.

    Args:
        app: Its broker and transport options are used, read at the first dispatch.
        settings: For the sweep interval, which bounds ``dispatch_later``.
    """

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._link = BrokerLink(app)
        self._watch = BrokerWatch(lambda: check_usable(app), _tell_return)
        self._timers = DueTimers(self.dispatch, longest=settings.sweep_interval * 2)

    def dispatch(self, hints: Sequence[Hint]) -> None:
        """Send the hints; never raises. What cannot be sent now is found by the sweep.

        The first failure may take the time limit of the connection; until the broker is back nobody waits again.
        """
        if hints and not self._watch.is_away:
            # The work is committed: a broker that is down must not undo it.
            self._try(lambda: self._link.publish(hints))

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        """Send the hint after ``delay`` from a thread of this process, unless the sweep comes first anyway."""
        self._timers.add(hint, delay)

    def terminate(self, hints: Sequence[Hint]) -> None:
        """Ask the workers to kill the pool processes that execute these hints; pools of threads cannot."""
        ids = [messages.task_id(hint) for hint in hints]
        if self._watch.is_away or self._try(lambda: self._link.use(lambda channel: self._revoke(channel, ids))) is None:
            logger.warning("The workers cannot be asked to end %d executions: they go on for nobody", len(ids))

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]] | None:
        """Return which (queue, priority) lists hold no message now; None when the broker cannot be asked."""
        counts = self._ask(lambda channel: count_lists(channel, lists))
        return None if counts is None else {item for item in lists if counts[item] == 0}

    def depths(self, queues: Collection[str]) -> dict[str, int] | None:
        """Return how many messages wait in each queue; None when the broker cannot be asked."""
        return self._ask(lambda channel: count_queues(channel, queues))

    def close(self) -> None:
        """Drop pending timers and close the connection."""
        self._timers.stop()
        self._watch.stop()
        self._link.close()

    def _revoke(self, channel: Any, ids: list[str]) -> bool:
        connection = channel.connection.client
        self._app.control.revoke(ids, terminate=True, signal="SIGKILL", connection=connection, channel=channel)
        return True

    def _ask(self, question: Callable[[Any], Answer]) -> Answer | None:
        return None if self._watch.is_away else self._try(lambda: self._link.use(question))

    def _try(self, action: Callable[[], Answer]) -> Answer | None:
        """Return what the action returns; None, and look for the broker from now on, if it raises an error."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - nothing that is asked of a broker matters enough to fail for it
            if self._watch.note_failure():
                logger.warning("The broker cannot be used (%s): hints are dropped, the sweep will send them", error)
            return None


def _tell_return() -> None:
    logger.info("The broker can be used again")
