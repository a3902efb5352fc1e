"""Cuts the connection of a call that does not return; no time limit of the server can do that.

A client of PostgreSQL waits for ever on a connection that a proxy or firewall in between has forgotten: no answer
arrives and no side closes it, while keepalives are answered on the way. One thread per process shuts such a socket down, and the
call that waits for it fails like any other whose connection broke.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from contextlib import suppress
from math import inf


class Line:
    """The socket of one connection, and the deadline of its present call.

    It has a descriptor of its own: the driver may close its descriptor at any moment, and another file may get the number.
    """

    __slots__ = ("__weakref__", "_descriptor", "_watchdog", "deadline", "was_cut")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._watchdog = _watchdog_of_this_process()
        self._watchdog.watch(self)
        #: By the monotonic clock; infinite while there is no call.
        self.deadline = inf
        self.was_cut = False

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # there is none if the process had no descriptor left
            os.close(self._descriptor)

    def begin_call(self, seconds: float) -> None:
        """Start the time of a call."""
        self.deadline = deadline = time.monotonic() + seconds
        self._watchdog.expect(deadline)

    def end_call(self) -> None:
        """End the time of the call."""
        self.deadline = inf

    def cut(self) -> None:
        """Shut the connection down for both sides."""
        self.was_cut = True
        self.deadline = inf
        with suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as end:
            end.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """The thread that looks for late calls; it sleeps until the next deadline that it has seen.

    A call costs it two assignments: it is woken only for a deadline that is earlier than the one it sleeps for.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._wakes_at = inf
        self._thread: threading.Thread | None = None

    def watch(self, line: Line) -> None:
        """Look after the calls of a line, too, as long as the line lives."""
        with self._lock:
            self._lines.add(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="workflow-watchdog", daemon=True)
                self._thread.start()

    def expect(self, deadline: float) -> None:
        """Be awake at ``deadline``."""
        if deadline < self._wakes_at:
            self._woken.set()

    def _run(self) -> None:
        while True:
            self._woken.clear()
            self._wakes_at = inf  # set before looking: a call that begins meanwhile wakes the thread
            self._wakes_at = deadline = self._cut_late_lines()
            self._woken.wait(None if deadline == inf else max(0.0, deadline - time.monotonic()))

    def _cut_late_lines(self) -> float:
        """Cut the lines whose call is late; return the earliest deadline of the others."""
        earliest = inf
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            deadline = line.deadline
            if deadline <= time.monotonic():
                line.cut()
            else:
                earliest = min(earliest, deadline)
        return earliest


_current: Watchdog | None = None


def _watchdog_of_this_process() -> Watchdog:
    """Return the watchdog; a forked process gets its own, which leaves the connections of its parent alone."""
    global _current  # noqa: PLW0603 - one thread per process, however many databases it has
    if _current is None or _current.pid != os.getpid():
        _current = Watchdog()
    return _current
