"""Threads for bodies: kept from one call to the next, and given up with a call that outlives its time limit."""

from __future__ import annotations

import contextvars
import ctypes
import itertools
import logging
import os
import sys
import threading
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from workflow_engine.errors import StageTimeout
from workflow_engine.store.connection.error_texts import loggable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

logger = logging.getLogger("workflow_engine.bodies")

#: An exception reaches a thread only between two waits in C: a thread that waits for a body may have a limit itself.
SLICE_SECONDS: Final = 0.5

_numbers = itertools.count(1)


class BodyThreads:
    """Calls functions in threads of their own, because no other means stops waiting for a function.

    There are as many threads as calls at the same time, so that a client or connection that a body keeps for its thread
    is made once for each slot of a worker. A thread whose function outlives its limit is never used again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_BodyThread] = []

    def call(self, function: Callable[[Any], Any], argument: Any, timeout: timedelta) -> Any:
        """Return ``function(argument)``, called with the context variables of the calling thread.

        When the limit passes, ``StageTimeout`` is raised here and, as soon as it executes Python code again, inside
        the function.

        Raises:
            StageTimeout: It took longer than ``timeout``.
        """
        thread, call = self._take(), _Call(partial(function, argument))
        thread.begin(call)
        try:
            is_late = not _wait(call.answer, timeout)
        except BaseException:  # the caller itself was stopped, so its function is given up
            thread.give_up(call)
            raise
        if is_late and thread.give_up(call):
            raise StageTimeout(f"took longer than its time limit of {timeout}")
        with self._lock:
            self._idle.append(thread)
        return call.answer.result()

    def stop(self) -> None:
        """End the threads that do nothing; the others end with their functions, or with the process."""
        with self._lock:
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.end()

    def _take(self) -> _BodyThread:
        with self._lock:
            return self._idle.pop() if self._idle else _BodyThread()


class BodyExecutor(ThreadPoolExecutor):
    """The threads of ``asyncio.to_thread`` for the bodies on one loop.

    The standard executor counts a thread as its own until its function returns, and waits for it when the process
    ends: a handful of bodies whose time limit passed in blocking calls would stop ``to_thread`` for all others. Here
    a thread whose call was cancelled is replaced. (asyncio accepts no executor that is not derived from this class.)
    """

    def __init__(self, most: int = min(32, (os.cpu_count() or 1) + 4)) -> None:
        super().__init__()  # starts no thread
        self._most = most
        self._turn = threading.Lock()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._running: set[_Call] = set()
        #: Threads that were not given up.
        self._thread_count = 0
        #: Calls whose callers still wait.
        self._call_count = 0

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function in one of the threads, with the context variables of this one."""
        call = _Call(partial(fn, *args, **kwargs))
        with self._turn:
            self._call_count += 1
            self._start_threads()
        call.answer.add_done_callback(lambda _: self._end_call(call))
        self._calls.put(call)
        return call.answer

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Have the threads end when their functions return, without waiting for that."""
        with self._turn:
            for _ in range(self._thread_count):
                self._calls.put(None)

    def _start_threads(self) -> None:
        while self._thread_count < min(self._most, self._call_count):
            self._thread_count += 1
            threading.Thread(
                target=self._perform_calls, name=f"workflow-to-thread-{next(_numbers)}", daemon=True
            ).start()

    def _perform_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            with self._turn:
                if call.answer.cancelled():
                    continue
                self._running.add(call)
            if not call.perform():
                return
            del call  # its function and result must not live until the next call

    def _end_call(self, call: _Call) -> None:
        with self._turn:
            self._call_count -= 1
            if call in self._running:
                self._running.discard(call)
                self._thread_count -= call.answer.cancelled()
            self._start_threads()


@dataclass(slots=True, eq=False)
class _Call:
    function: Callable[[], Any]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    #: Cancelled when the caller waits no longer; the caller or the result, whichever is first, decides.
    answer: Future[Any] = field(default_factory=Future)

    def perform(self) -> bool:
        """Call the function; return False if the caller had stopped waiting for it."""
        _close_old_connections()
        try:
            result = self.context.run(self.function)
        except BaseException as error:  # noqa: BLE001 - carried to the caller
            answer = partial(self.answer.set_exception, error)
        else:
            answer = partial(self.answer.set_result, result)
        _close_old_connections()
        try:
            answer()
        except InvalidStateError:
            return False
        return True


class _BodyThread:
    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._interrupted = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"workflow-body-{next(_numbers)}", daemon=True)
        self._thread.start()

    def begin(self, call: _Call) -> None:
        """Perform the call; the one before has ended."""
        self._calls.put(call)

    def end(self) -> None:
        """End when the calls that were begun have ended."""
        self._calls.put(None)

    def give_up(self, call: _Call) -> bool:
        """Raise StageTimeout in the call and end with it; False if it has ended: a result in the last moment counts."""
        if not call.answer.cancel():
            return False
        number = ctypes.c_ulong(self._thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(StageTimeout))
        self._interrupted.set()
        return True

    def _run(self) -> None:
        try:
            while (call := self._calls.get()) is not None and call.perform():
                del call
            if call is not None:
                self._interrupted.wait()  # the error must not find another thread that has got this one's number
        except StageTimeout:
            return  # it was on its way when the function ended


def _wait(answer: Future[Any], timeout: timedelta) -> bool:
    """Wait for the answer; False when the limit passed first."""
    deadline = monotonic() + timeout.total_seconds()
    while not answer.done():
        left = deadline - monotonic()
        if left <= 0:
            return False
        wait([answer], min(left, SLICE_SECONDS))
    return True


def _close_old_connections() -> None:
    """Let Django, if the host uses it, drop this thread's connections that are broken or old.

    Django does that around requests and Celery's tasks, in their threads. A thread that lives as long as its worker
    would otherwise never get rid of a connection that a restart of the host's database broke.
    """
    database: Any = sys.modules.get("django.db")
    if database is None:
        return
    try:
        database.close_old_connections()
    except Exception as error:
        logger.debug("Django's connections are not looked after", exc_info=loggable(error))
