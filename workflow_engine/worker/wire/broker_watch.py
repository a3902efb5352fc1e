"""Remembers that the broker is away, so that nobody waits for it, and finds out when it is back."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from workflow_engine.worker.wire.process_state import ProcessState

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two looks at a broker that is away: doubled from one look to the next.
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
#: A broker that fails again this soon after its return is looked at as seldom as before: it answers, and does not work.
SOUND_SECONDS: Final = 60.0


class BrokerWatch(ProcessState):
    """A thread that looks whether the broker is back, from the first failure until then; there is none otherwise.

    Args:
        check: Raises an error while the broker cannot be used.
        on_return: Called, by that thread, when it can.
        monotonic: The clock that tells how long the broker has been sound.
    """

    _thread: threading.Thread | None
    #: By the monotonic clock.
    _returned_at: float

    def __init__(
        self,
        check: Callable[[], None],
        on_return: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check
        self._on_return = on_return
        self._monotonic = monotonic
        self._reset()

    @property
    def is_away(self) -> bool:
        """Whether the broker failed and is not known to be back; after a fork nothing is known."""
        self._notice_fork()
        return self._thread is not None

    def note_failure(self) -> bool:
        """Begin to look for the broker; False if that had begun already."""
        self._notice_fork()
        with self._lock:
            if self._thread is not None:
                return False
            if self._monotonic() - self._returned_at > SOUND_SECONDS:
                self._pause = FIRST_PAUSE
            thread = threading.Thread(target=self._run, args=(self._stopped,), name="workflow-broker", daemon=True)
            with suppress(RuntimeError):  # the process is ending: no thread can be started, nobody asks again
                thread.start()
                self._thread = thread
            return True

    def stop(self) -> None:
        """End the thread; the next failure starts another."""
        if self._is_of_this_process():
            self._stopped.set()
        self._reset()

    def _make_anew(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = None
        self._pause = FIRST_PAUSE
        self._returned_at = float("-inf")

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._pause):
            self._pause = min(LONGEST_PAUSE, self._pause * 2)
            try:
                self._check()
            except Exception:  # noqa: BLE001, S112 - whatever it is, the broker cannot be used
                continue
            with self._lock:
                if not stopped.is_set():
                    self._thread = None
                    self._returned_at = self._monotonic()
            self._on_return()
            return
