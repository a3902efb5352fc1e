"""Calling user code: in this thread, in one of its own when it has a time limit, or on the process's event loop."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from workflow_engine.errors import StageTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import timedelta


class BodyRunner:
    """Runs bodies, polls and hooks; one per process.

    Async bodies share one event loop thread. A sync body with a time limit runs in a thread of its own, because no
    other means stops waiting for it: when the limit passes, ``StageTimeout`` is raised here and, as soon as it
    executes Python code again, inside the body. A body that swallows that goes on for nobody: its lease is gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, function: Callable[..., Any], argument: Any, *, is_async: bool, timeout: timedelta | None) -> Any:
        """Call ``function(argument)`` and return its result.

        Raises:
            StageTimeout: It took longer than ``timeout``.
        """
        if is_async:
            return self._call_async(function(argument), timeout)
        if timeout is None:
            return function(argument)
        return _call_in_thread(function, argument, timeout)

    def stop(self) -> None:
        """Stop the event loop, cancelling what still runs on it."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _call_async(self, body: Coroutine[Any, Any, Any], timeout: timedelta | None) -> Any:
        future = asyncio.run_coroutine_threadsafe(body, self._running_loop())
        try:
            return future.result(timeout.total_seconds() if timeout else None)
        except TimeoutError:
            if future.done():
                return future.result()  # the body's own TimeoutError, or it ended in the last moment
            future.cancel()
            raise StageTimeout(_timeout_message(timeout)) from None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run_loop, args=(self._loop,), name="workflow-async", daemon=True).start()
            return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _call_in_thread(function: Callable[..., Any], argument: Any, timeout: timedelta) -> Any:
    answer: Future[Any] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(function, argument)
        except BaseException as error:  # noqa: BLE001 - carried to the caller
            answer.set_exception(error)
        else:
            answer.set_result(result)

    thread = threading.Thread(target=run, name=f"{threading.current_thread().name}-body", daemon=True)
    thread.start()
    thread.join(timeout.total_seconds())
    if not answer.done() and thread.is_alive():
        _raise_in(thread, StageTimeout)
        raise StageTimeout(_timeout_message(timeout))
    return answer.result()


def _raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))


def _timeout_message(timeout: timedelta | None) -> str:
    return f"took longer than its time limit of {timeout}"
