"""Calling user code: in this thread, in one of its own when it has a time limit, or on an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from workflow_engine.engine.process.body_loops import BodyLoops, Patience
from workflow_engine.engine.process.body_threads import BodyThreads

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta


class BodyRunner:
    """Runs bodies, polls and hooks; one per process.

    When the time limit of a body passes, ``call`` raises, whatever the body does. Its thread, or its place on the event
    loop, is free for other bodies then; where the body does not let go of it, it is given up and replaced. A body that
    goes on has no effect, because its lease is gone.
    """

    def __init__(self, patience: Patience | None = None) -> None:
        self._threads = BodyThreads()
        self._loops = BodyLoops(patience or Patience())

    def call(self, function: Callable[..., Any], argument: Any, *, is_async: bool, timeout: timedelta | None) -> Any:
        """Call ``function(argument)`` and return its result.

        Raises:
            StageTimeout: It took longer than ``timeout``.
            BodyEvictedError: Another async body blocked the event loop on which this one waited.
            CancelledError: It raised asyncio's CancelledError, though nobody had cancelled it.
        """
        try:
            if is_async:
                return self._loops.call(function, argument, timeout)
            if timeout is None:
                return function(argument)
            return self._threads.call(function, argument, timeout)
        except asyncio.CancelledError as error:
            # It is no Exception, so Retry would not cover it; but a body that a library cancelled has simply failed.
            raise CancelledError("the body was cancelled by code that it called") from error

    def stop(self) -> None:
        """End the event loops, cancelling what still runs on them, and the threads that are idle."""
        self._loops.stop()
        self._threads.stop()
