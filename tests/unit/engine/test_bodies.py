"""Time limits reach what they limit, and one body never holds up another for good."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from workflow_engine.clock import SystemClock
from workflow_engine.engine import body_threads
from workflow_engine.engine.bodies import BodyRunner
from workflow_engine.engine.body_loops import BodyEvictedError, Patience
from workflow_engine.engine.body_threads import BodyExecutor
from workflow_engine.errors import StageTimeout
from workflow_engine.log_context import ExecutedStage, executing

MOMENT = timedelta(milliseconds=50)
LONG = timedelta(seconds=60)
#: For a loop that never answers: whoever waits for it is to be given up, or moved, soon.
IMPATIENT = Patience(slice=0.02, start=0.1, blocked=0.5)


class Slots:
    """Calls bodies as the slots of a worker do, each in a thread of its own."""

    def __init__(self) -> None:
        self.runner = BodyRunner(IMPATIENT)
        #: Blocking calls wait for it.
        self.released = threading.Event()
        self._pool = ThreadPoolExecutor(8)

    def call(self, body: Callable[[Any], Any], timeout: timedelta | None = None) -> Any:
        return self.runner.call(body, None, is_async=asyncio.iscoroutinefunction(body), timeout=timeout)

    def begin(self, stage_id: str, body: Callable[[Any], Any], timeout: timedelta | None = None) -> Future[Any]:
        return self._pool.submit(self._call_stage, stage_id, body, timeout)

    def _call_stage(self, stage_id: str, body: Callable[[Any], Any], timeout: timedelta | None) -> Any:
        with executing(ExecutedStage("run-1", stage_id, 1)):
            return self.call(body, timeout)

    def block(self) -> None:
        assert self.released.wait(60)

    def close(self) -> None:
        self.released.set()
        self._pool.shutdown()
        self.runner.stop()


@pytest.fixture
def slots() -> Iterator[Slots]:
    made = Slots()
    yield made
    made.close()


async def harmless(_: Any) -> str:
    await asyncio.sleep(0)
    return "done"


def waiting(begun: threading.Event) -> Callable[[Any], Any]:
    """An async body that awaits something that never comes."""

    async def body(_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    return body


def blocking(slots: Slots, begun: threading.Event) -> Callable[[Any], Any]:
    """An async body that calls something that does not await."""

    async def body(_: Any) -> str:
        begun.set()
        slots.block()
        return "late"

    return body


# ------------------------------------------------------------------------------------------- blocking calls in async code


def test_an_async_body_that_blocks_ends_at_its_limit_and_others_run_on(slots: Slots) -> None:
    with pytest.raises(StageTimeout, match=r"0:00:00\.05\S*, and blocks the event loop"):
        slots.call(blocking(slots, threading.Event()), MOMENT)

    assert [slots.call(harmless, LONG), slots.call(harmless)] == ["done", "done"]


def test_the_log_names_the_stage_that_blocks_the_loop_and_shows_where(
    slots: Slots, caplog: pytest.LogCaptureFixture
) -> None:
    wait([slots.begin("greedy", blocking(slots, threading.Event()), MOMENT)], 60)

    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert 'stage "greedy" of run run-1 blocks it' in line
    assert "slots.block()" in line


def test_a_body_without_a_limit_that_has_not_begun_moves_to_another_loop(slots: Slots) -> None:
    begun = threading.Event()
    greedy = slots.begin("greedy", blocking(slots, begun))
    assert begun.wait(60)

    result = slots.begin("other", harmless).result(60)

    assert result == "done"
    assert not greedy.done()


def test_a_body_without_a_limit_that_is_caught_on_a_blocked_loop_is_given_up(slots: Slots) -> None:
    begun, blocked = threading.Event(), threading.Event()
    other = slots.begin("other", waiting(begun))
    assert begun.wait(60)
    greedy = slots.begin("greedy", blocking(slots, blocked))

    with pytest.raises(BodyEvictedError, match='by stage "greedy" of run run-1'):
        other.result(60)

    assert not greedy.done()


def test_a_body_that_blocks_for_long_still_delivers_its_result(slots: Slots) -> None:
    begun, blocked = threading.Event(), threading.Event()
    other = slots.begin("other", waiting(begun))
    assert begun.wait(60)
    greedy = slots.begin("greedy", blocking(slots, blocked), LONG)
    wait([other], 60)  # the loop is known to be blocked

    slots.released.set()

    assert greedy.result(60) == "late"


def test_a_limit_that_passes_on_a_blocked_loop_names_the_stage_that_blocks(slots: Slots) -> None:
    slots.runner = BodyRunner(replace(IMPATIENT, blocked=60))
    begun, blocked = threading.Event(), threading.Event()
    other = slots.begin("other", waiting(begun), timedelta(seconds=1))
    assert begun.wait(60)
    slots.begin("greedy", blocking(slots, blocked))

    with pytest.raises(StageTimeout, match=r'0:00:01; meanwhile .* by stage "greedy" of run run-1'):
        other.result(60)


def test_a_body_that_could_not_begin_within_its_limit_has_not_failed(slots: Slots) -> None:
    blocked = threading.Event()
    slots.begin("greedy", blocking(slots, blocked))
    assert blocked.wait(60)

    with pytest.raises(BodyEvictedError, match="before the body began"):
        slots.call(harmless, MOMENT)


def test_a_task_of_a_body_that_blocks_is_laid_at_the_bodys_door(slots: Slots) -> None:
    begun, blocked = threading.Event(), threading.Event()

    async def step() -> None:
        blocked.set()
        slots.block()

    async def body(_: Any) -> None:
        await asyncio.create_task(step())

    other = slots.begin("other", waiting(begun))
    assert begun.wait(60)
    slots.begin("greedy", body)

    with pytest.raises(BodyEvictedError, match='by stage "greedy" of run run-1'):
        other.result(60)


def test_where_no_stage_can_be_blamed_every_body_on_the_loop_fails(slots: Slots) -> None:
    async def body(_: Any) -> None:
        asyncio.get_running_loop().call_soon(slots.block)
        await asyncio.Event().wait()

    with pytest.raises(StageTimeout, match="by a callback that belongs to no stage"):
        slots.call(body)


def test_a_loop_that_was_left_ends_with_its_last_body(slots: Slots) -> None:
    threads: list[threading.Thread] = []

    async def body(_: Any) -> None:
        threads.append(threading.current_thread())
        slots.block()

    with pytest.raises(StageTimeout):
        slots.call(body, MOMENT)
    slots.released.set()
    threads[0].join(60)

    assert not threads[0].is_alive()


# ----------------------------------------------------------------------------------------------------- what bodies leave


def test_a_body_that_waits_for_what_nobody_else_refers_to_is_kept(slots: Slots) -> None:
    begun = threading.Event()
    body = slots.begin("one", waiting(begun))
    assert begun.wait(60)

    gc.collect()

    assert not wait([body], 0.1).done
    slots.runner.stop()


def test_a_body_that_swallows_its_cancellation_holds_up_nobody(slots: Slots) -> None:
    cancelled = threading.Event()

    async def body(_: Any) -> None:
        while not slots.released.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                cancelled.set()

    with pytest.raises(StageTimeout):
        slots.call(body, MOMENT)

    assert cancelled.wait(60)
    assert slots.call(harmless, LONG) == "done"


def test_a_body_is_cancelled_once_so_that_it_can_clean_up(slots: Slots) -> None:
    cleaned = threading.Event()

    async def body(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    with pytest.raises(StageTimeout):
        slots.call(body, MOMENT)

    assert cleaned.wait(60)


def test_tasks_of_a_body_past_its_limit_are_cancelled_with_it(slots: Slots) -> None:
    cancelled = threading.Event()
    kept: list[Any] = []

    async def child() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()

    async def body(_: Any) -> None:
        kept.append(asyncio.create_task(child()))
        await asyncio.Event().wait()

    with pytest.raises(StageTimeout):
        slots.call(body, MOMENT)

    assert cancelled.wait(60)


def test_tasks_of_a_body_that_has_ended_well_go_on(slots: Slots) -> None:
    seen, go_on = threading.Event(), threading.Event()
    kept: list[Any] = []

    async def child() -> None:
        if await asyncio.to_thread(go_on.wait, 60):
            seen.set()

    async def body(_: Any) -> None:
        kept.append(asyncio.create_task(child()))

    slots.call(body, LONG)
    go_on.set()

    assert seen.wait(60)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_whatever_a_body_raises_reaches_its_caller_and_no_other_body(slots: Slots, error: type[BaseException]) -> None:
    async def body(_: Any) -> None:
        raise error

    with pytest.raises(error):
        slots.call(body)

    assert slots.call(harmless) == "done"


def test_a_task_that_exits_does_not_end_the_loop(slots: Slots) -> None:
    begun = threading.Event()

    async def child() -> None:
        raise SystemExit(3)

    async def body(_: Any) -> None:
        await asyncio.create_task(child())

    async def patient(_: Any) -> str:
        begun.set()
        await asyncio.to_thread(slots.block)
        return "done"

    other = slots.begin("other", patient)
    assert begun.wait(60)
    with pytest.raises(SystemExit):
        slots.call(body, LONG)
    slots.released.set()

    assert other.result(60) == "done"


async def cancelled_by_a_library(_: Any) -> None:
    raise asyncio.CancelledError


def cancelled_inside(_: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("body", [cancelled_by_a_library, cancelled_inside])
@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_cancellation_that_nobody_asked_for_is_an_ordinary_error(
    slots: Slots, body: Callable[[Any], Any], timeout: timedelta | None
) -> None:
    with pytest.raises(CancelledError) as raised:
        slots.call(body, timeout)

    assert isinstance(raised.value, Exception)
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)


def test_stopping_ends_the_bodies_that_still_run(slots: Slots) -> None:
    begun = threading.Event()
    body = slots.begin("one", waiting(begun))
    assert begun.wait(60)

    slots.runner.stop()

    with pytest.raises(CancelledError):
        body.result(60)


# ---------------------------------------------------------------------------------------------------- threads of to_thread


def test_calls_that_outlive_their_bodies_leave_their_threads_to_others() -> None:
    executor = BodyExecutor(most=2)
    begun, released = threading.Semaphore(0), threading.Event()

    def block() -> None:
        begun.release()
        released.wait(60)

    left = [executor.submit(block) for _ in range(2)]
    for _ in left:
        assert begun.acquire(timeout=60)
    waits = executor.submit(lambda: "waited")
    assert not wait([waits], 0.05).done
    for future in left:
        future.cancel()

    assert waits.result(60) == "waited"
    assert executor.submit(lambda: "more").result(60) == "more"
    released.set()
    executor.shutdown()


def test_no_more_threads_run_at_once_than_allowed_and_they_are_used_again() -> None:
    executor = BodyExecutor(most=2)
    used = {executor.submit(threading.current_thread).result(60) for _ in range(20)}
    running, most = 0, 0
    turn = threading.Lock()

    def count() -> None:
        nonlocal running, most
        with turn:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with turn:
            running -= 1

    wait([executor.submit(count) for _ in range(20)], 60)
    executor.shutdown()

    assert len(used) <= 2
    assert most == 2


def test_a_call_that_was_cancelled_before_its_turn_is_never_made() -> None:
    executor = BodyExecutor(most=1)
    begun, released, made = threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        released.wait(60)

    first = executor.submit(block)
    assert begun.wait(60)
    executor.submit(made.set).cancel()
    released.set()
    first.result(60)

    assert executor.submit(lambda: "next").result(60) == "next"
    assert not made.is_set()
    executor.shutdown()


def test_bodies_whose_limit_passed_in_to_thread_do_not_stop_it_for_others(slots: Slots) -> None:
    async def body(_: Any) -> None:
        await asyncio.gather(*(asyncio.to_thread(slots.block) for _ in range(40)))

    async def other(_: Any) -> str:
        return await asyncio.to_thread(lambda: "done")

    with pytest.raises(StageTimeout):
        slots.call(body, timedelta(milliseconds=300))

    assert slots.call(other, LONG) == "done"


def test_a_process_ends_whatever_its_bodies_left_in_threads() -> None:
    program = """
import asyncio, threading
from datetime import timedelta
from workflow_engine.engine.bodies import BodyRunner
from workflow_engine.errors import StageTimeout

async def body(_):
    await asyncio.to_thread(threading.Event().wait)

for function, is_async in ((body, True), (lambda _: threading.Event().wait(), False)):
    try:
        BodyRunner().call(function, None, is_async=is_async, timeout=timedelta(milliseconds=50))
    except StageTimeout:
        print("late")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)

    assert (ended.returncode, ended.stdout.split()) == (0, ["late", "late"]), ended.stderr


# ------------------------------------------------------------------------------------------------ sync bodies with a limit


def test_sync_bodies_with_a_limit_use_one_thread_again_and_again(slots: Slots) -> None:
    used = {slots.call(lambda _: threading.current_thread(), LONG) for _ in range(20)}

    assert len(used) == 1
    assert threading.current_thread() not in used


def test_bodies_at_the_same_time_have_a_thread_each(slots: Slots) -> None:
    together = threading.Barrier(3)

    def body(_: Any) -> threading.Thread:
        together.wait(60)
        return threading.current_thread()

    futures = [slots.begin("one", body, LONG) for _ in range(3)]

    assert len({future.result(60) for future in futures}) == 3


def test_a_thread_whose_body_outlives_its_limit_is_replaced_and_ends(slots: Slots) -> None:
    threads: list[threading.Thread] = []

    def body(_: Any) -> None:
        threads.append(threading.current_thread())
        slots.block()

    with pytest.raises(StageTimeout, match=r"limit of 0:00:00\.05"):
        slots.call(body, MOMENT)
    following = slots.call(lambda _: threading.current_thread(), LONG)
    slots.released.set()
    threads[0].join(60)

    assert following is not threads[0]
    assert not threads[0].is_alive()


def test_the_limit_is_raised_inside_the_body_too(slots: Slots) -> None:
    stopped = threading.Event()

    def body(_: Any) -> None:
        try:
            while not slots.released.wait(0.01):
                pass
        except StageTimeout:
            stopped.set()
            raise

    with pytest.raises(StageTimeout):
        slots.call(body, MOMENT)

    assert stopped.wait(60)


def test_a_body_that_sleeps_by_the_engines_clock_is_reached_in_between(slots: Slots) -> None:
    stopped = threading.Event()

    def body(_: Any) -> None:
        try:
            SystemClock().sleep(timedelta(hours=1))
        except StageTimeout:
            stopped.set()

    with pytest.raises(StageTimeout):
        slots.call(body, MOMENT)

    assert stopped.wait(60)


@pytest.mark.parametrize("inner_timeout", [None, LONG])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_body_that_waits_for_another_body_is_reached_and_gives_that_up(
    slots: Slots,
    inner_timeout: timedelta | None,
    is_async: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def waits(_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def polls(_: Any) -> None:
        begun.set()
        try:
            while not slots.released.wait(0.01):
                pass
        finally:
            ended.set()

    with pytest.raises(StageTimeout):
        slots.call(lambda _: slots.call(waits if is_async else polls, inner_timeout), timedelta(milliseconds=300))

    assert begun.is_set()
    assert ended.wait(60)


def test_a_result_in_the_last_moment_is_a_result(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    def see_the_limit_pass_first(answer: Future[Any], _: timedelta) -> bool:
        wait([answer], 60)
        return False

    monkeypatch.setattr(body_threads, "_wait", see_the_limit_pass_first)

    assert slots.call(lambda _: 7, MOMENT) == 7
    assert slots.call(lambda _: 8, MOMENT) == 8


def test_each_body_sees_the_context_variables_of_its_own_caller(slots: Slots) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    def body(_: Any) -> str:
        seen = variable.get()
        variable.set("left by a body")
        return seen

    def call(value: str) -> Any:
        variable.set(value)
        return slots.call(body, LONG)

    seen = [contextvars.copy_context().run(call, value) for value in ("first", "second")]

    assert seen == ["first", "second"]
    assert slots.call(body, LONG) == "none"


def test_django_looks_after_the_connections_of_the_thread_before_and_after_each_body(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_after: list[str] = []
    django = ModuleType("django.db")
    django.close_old_connections = lambda: looked_after.append(threading.current_thread().name)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django.db", django)

    name, before = slots.call(lambda _: (threading.current_thread().name, list(looked_after)), LONG)

    assert before == [name]
    assert looked_after == [name, name]


def test_django_that_is_not_set_up_fails_no_body(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django.db", ModuleType("django.db"))

    assert slots.call(lambda _: 7, LONG) == 7
