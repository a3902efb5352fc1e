"""State that a forked process must not take over from its parent: locks, threads and connections."""

from __future__ import annotations

import os


class ProcessState:
    """Has its state made anew in each process that uses it: threads do not survive a fork, and locks may be held in it.

    What belongs to the parent is forgotten, not closed.
    """

    _pid: int

    def _make_anew(self) -> None:
        """Set every attribute that belongs to one process."""
        raise NotImplementedError

    def _reset(self) -> None:
        self._make_anew()
        self._pid = os.getpid()  # last: other threads go on as soon as they see it

    def _is_of_this_process(self) -> bool:
        return self._pid == os.getpid()

    def _notice_fork(self) -> None:
        if not self._is_of_this_process():
            self._reset()
