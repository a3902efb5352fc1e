"""Event loops for async bodies. A loop that a blocking call holds up is left behind, and its bodies go on elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import traceback
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from workflow_engine.engine.process.body_threads import BodyExecutor
from workflow_engine.errors import StageTimeout
from workflow_engine.log_context import executed_stage
from workflow_engine.store.connection.error_texts import loggable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import timedelta

    from workflow_engine.log_context import ExecutedStage

logger = logging.getLogger("workflow_engine.bodies")

#: Callers look after their loop more often than this, unless they could not. In seconds.
LONGEST_SLICE: Final = 5.0
#: How long the end of a loop waits for tasks that were cancelled.
WIND_UP_SECONDS: Final = 5.0
#: How much of the stack that blocks a loop is logged.
MOST_FRAMES: Final = 12


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a loop may be silent, in seconds. A loop is silent while one step of a body, or a callback, executes."""

    #: How often a waiting caller looks; also how late an exception reaches a caller that is a body with a limit itself.
    slice: float = 0.5
    #: After so long a loop takes no new bodies; those that have not begun move to another loop, which costs nothing.
    start: float = 2.0
    #: After so long the other bodies on the loop are given up. Long, because each of them is executed once more, while
    #: a computation that should have been in a thread may still end.
    blocked: float = 30.0


class BodyEvictedError(Exception):
    """The body was given up because another one blocked its event loop; it may run again, and has not failed."""


class BodyLoops:
    """Runs coroutine functions on an event loop that they share, in a thread.

    The callers watch the loop. When it has been silent for a while, new calls go to a new loop. The silent loop
    executes what was begun there, if it ever answers again, and ends with its last call.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._current: _Loop | None = None
        self._retired: set[_Loop] = set()

    def call(
        self, function: Callable[[Any], Coroutine[Any, Any, Any]], argument: Any, timeout: timedelta | None
    ) -> Any:
        """Return what awaiting ``function(argument)`` returns.

        Raises:
            StageTimeout: It took longer than ``timeout``.
            BodyEvictedError: Another call blocked the loop for too long.
        """
        call = _Call(function, argument)
        deadline = monotonic() + timeout.total_seconds() if timeout else float("inf")
        self._begin(call)
        try:
            while not call.wait(min(self._patience.slice, deadline - monotonic())):
                if monotonic() >= deadline:
                    self._end_late(call, timeout)
                else:
                    self._look_after(call)
        except BaseException:  # also when the caller itself was stopped
            call.leave()
            raise
        return call.answer.result()

    def stop(self) -> None:
        """End the loops, cancelling what still runs on them."""
        with self._lock:
            loops = {*self._retired, *([self._current] if self._current else [])}
            self._current = None
            self._retired.clear()
        for loop in loops:
            loop.stop()

    def _begin(self, call: _Call) -> None:
        with self._lock:
            if self._current is None:
                self._current = _Loop()
                self._current.thread.start()
            call.move_to(self._current)

    def _end_late(self, call: _Call, timeout: timedelta | None) -> None:
        """Raise the error of a call whose limit has passed; return if it has ended in the last moment."""
        loop = call.home
        call.leave()
        if not call.answer.cancelled():
            return
        message = f"took longer than its time limit of {timeout}"
        if loop.answers_within(self._patience.start):
            raise StageTimeout(message)
        blocker = self._retire(loop)
        if not call.has_begun:
            raise BodyEvictedError(f"the event loop was blocked by {blocker.name} before the body began")
        if blocker.call is call:
            raise StageTimeout(f"{message}, and blocks the event loop: a call that does not await belongs in a thread")
        raise StageTimeout(f"{message}; meanwhile the event loop was blocked by {blocker.name}")

    def _look_after(self, call: _Call) -> None:
        silence = call.home.silence()
        if silence >= self._patience.start and not call.has_begun:
            self._retire(call.home)
            self._begin(call)
        elif silence >= self._patience.blocked:
            blocker = self._retire(call.home)
            if blocker.call is call or call.home.silence() < silence:
                return  # the call blocks itself, like a sync body; or the loop answers again
            call.leave()
            if call.answer.cancelled():
                raise blocker.eviction(silence)

    def _retire(self, loop: _Loop) -> _Blocker:
        """Send no more calls to the loop; return the call that blocks it."""
        blocker = loop.find_blocker()
        with self._lock:
            is_news = loop not in self._retired
            self._retired = {one for one in self._retired if one.thread.is_alive()} | {loop}
            if self._current is loop:
                self._current = None
        if is_news:
            logger.warning(
                "an event loop does not answer: %s blocks it; async stages go on on another loop. It is here:\n%s",
                blocker.name,
                blocker.stack,
            )
            loop.retire()
        return blocker


@dataclass(frozen=True, slots=True)
class _Blocker:
    """The code that a silent loop was seen to execute."""

    call: _Call | None
    stack: str

    @property
    def name(self) -> str:
        """The stage that blocks the loop, for people."""
        if self.call is None:
            return "a callback that belongs to no stage"
        stage = self.call.stage
        return f'stage "{stage.stage_id}" of run {stage.run_id}' if stage else "a body outside any stage"

    def eviction(self, silence: float) -> Exception:
        """Return the error of a call that waits on the loop. Without a stage to blame each of them may be at fault."""
        message = f"the event loop was blocked for {silence:.0f} s by {self.name}"
        return StageTimeout(message) if self.call is None else BodyEvictedError(message)


@dataclass(slots=True, eq=False)
class _Call:
    """One body, from its submission to its end, wherever it runs."""

    function: Callable[[Any], Coroutine[Any, Any, Any]]
    argument: Any
    stage: ExecutedStage | None = field(default_factory=executed_stage)
    #: Cancelled when the caller waits no longer; the caller or the result, whichever is first, decides.
    answer: Future[Any] = field(default_factory=Future)
    has_begun: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    home: _Loop = field(init=False)

    def move_to(self, loop: _Loop) -> None:
        """Have the loop begin the call, unless another has."""
        with self.lock:
            if not self.has_begun:
                self.home = loop
                loop.submit(self)

    def begin(self, loop: _Loop) -> bool:
        """Whether this loop is to execute the call."""
        with self.lock:
            if self.has_begun or self.home is not loop or self.answer.cancelled():
                return False
            self.has_begun = True
            return True

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the call; whether it has ended."""
        return self.answer.done() or bool(wait([self.answer], max(seconds, 0.0)).done)

    def leave(self) -> None:
        """Wait no longer. The tasks of the call on its loop are cancelled; no effect on a call that has ended."""
        if not self.answer.cancelled() and self.answer.cancel():
            self.home.cancel(self)

    async def perform(self) -> None:
        """Await the body. Nothing is raised: some errors would end the loop with the task."""
        try:
            result = await self.function(self.argument)
        except BaseException as error:  # noqa: BLE001 - carried to the caller
            with suppress(InvalidStateError):
                self.answer.set_exception(error)
        else:
            with suppress(InvalidStateError):
                self.answer.set_result(result)


#: The call to which a task belongs that is made now.
_present_call: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("workflow_engine_call", default=None)


class _Loop:
    """A loop, its thread, and the calls to which the tasks on it belong."""

    def __init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name="workflow-async", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(self._make_task)
        self._loop.set_default_executor(BodyExecutor())
        #: Also of the tasks that a body makes.
        self._calls_of: WeakKeyDictionary[asyncio.Future[Any], _Call] = WeakKeyDictionary()
        #: The only lasting references to the tasks: asyncio's are weak, also while they wait.
        self._present: dict[_Call, asyncio.Task[None]] = {}
        self._is_retired = False
        self._is_stopped = False
        #: When the question was asked that the loop has not answered yet, by the monotonic clock.
        self._asked_at: float | None = None
        self._looked_at = 0.0

    def submit(self, call: _Call) -> None:
        """Begin the call on the loop, with the context variables of the calling thread."""
        context = contextvars.copy_context()
        context.run(_present_call.set, call)
        self._send(self._start_call, call, context=context)

    def cancel(self, call: _Call) -> None:
        """Cancel the tasks of a call, those included that the body made and left to themselves."""
        self._send(self._cancel_call, call)

    def silence(self) -> float:
        """Return for how many seconds the loop has not answered; ask it again if it has."""
        now = monotonic()
        looked_at, self._looked_at = self._looked_at, now
        asked_at = self._asked_at
        if asked_at is None:
            self._asked_at = now
            self._send(self._answer)
            return 0.0
        if now - looked_at > LONGEST_SLICE:
            self._asked_at = now  # no caller looked at the loop, perhaps because the whole process stood still
            return 0.0
        return now - asked_at

    def answers_within(self, seconds: float) -> bool:
        """Ask the loop and wait for its answer."""
        answered = threading.Event()
        self._send(answered.set)
        return answered.wait(seconds)

    def find_blocker(self) -> _Blocker:
        """Return the call and the stack that the loop executes at this moment."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self.thread.ident or 0)  # noqa: SLF001 - documented, though its name begins so
        stack = "".join(traceback.format_stack(frame)[-MOST_FRAMES:]) if frame else ""
        return _Blocker(None if task is None else self._calls_of.get(task), stack)

    def retire(self) -> None:
        """End with the last call."""
        self._send(self._retire)

    def stop(self) -> None:
        """End now, cancelling every task."""
        self._send(self._stop)

    def _run(self) -> None:
        """Turn the loop until it is told to stop; an error that a task raises through it does not end the others."""
        asyncio.set_event_loop(self._loop)
        try:
            while not self._is_stopped:
                try:
                    self._loop.run_forever()
                except BaseException as error:
                    logger.exception(
                        "a task of a body raised through its event loop, which goes on", exc_info=loggable(error)
                    )
            self._loop.run_until_complete(self._wind_up())
        finally:
            self._loop.close()

    def _send(self, function: Callable[..., object], *values: Any, context: contextvars.Context | None = None) -> None:
        with suppress(RuntimeError):  # closed: there is nothing left on it
            self._loop.call_soon_threadsafe(function, *values, context=context)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        call = _present_call.get()
        if call is not None:
            self._calls_of[task] = call
        return task

    def _start_call(self, call: _Call) -> None:
        if call.begin(self):
            task = self._present[call] = self._loop.create_task(call.perform())
            task.add_done_callback(lambda _: self._end_call(call))

    def _end_call(self, call: _Call) -> None:
        del self._present[call]
        call.argument = None  # tasks that go on refer to the call
        if not call.answer.done():
            call.answer.cancel()  # its task was cancelled before its first step
        if self._is_retired and not self._present:
            self._stop()

    def _cancel_call(self, call: _Call) -> None:
        for task in [task for task, owner in self._calls_of.items() if owner is call and not task.done()]:
            task.cancel()

    def _answer(self) -> None:
        self._asked_at = None

    def _retire(self) -> None:
        self._is_retired = True
        if not self._present:
            self._stop()

    def _stop(self) -> None:
        self._is_stopped = True
        self._loop.stop()

    async def _wind_up(self) -> None:
        """Cancel the tasks that are left, as asyncio.run does, and wait for them for ``WIND_UP_SECONDS`` at most."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=WIND_UP_SECONDS)
        await self._loop.shutdown_asyncgens()
