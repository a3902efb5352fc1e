"""Bodies in threads: a time limit frees the slot, and threads are used again."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from concurrent.futures import Future, wait
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from workflow_engine.clock import SystemClock
from workflow_engine.engine.process import body_threads
from workflow_engine.engine.process.body_threads import BodyExecutor
from workflow_engine.errors import StageTimeout

MOMENT = timedelta(milliseconds=50)
LONG = timedelta(seconds=60)


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


def test_bodies_whose_limit_passed_in_to_thread_do_not_stop_it_for_others(slots: Any) -> None:
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
from workflow_engine.engine.process.body_runner import BodyRunner
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


def test_sync_bodies_with_a_limit_use_one_thread_again_and_again(slots: Any) -> None:
    used = {slots.call(lambda _: threading.current_thread(), LONG) for _ in range(20)}

    assert len(used) == 1
    assert threading.current_thread() not in used


def test_bodies_at_the_same_time_have_a_thread_each(slots: Any) -> None:
    together = threading.Barrier(3)

    def body(_: Any) -> threading.Thread:
        together.wait(60)
        return threading.current_thread()

    futures = [slots.begin("one", body, LONG) for _ in range(3)]

    assert len({future.result(60) for future in futures}) == 3


def test_a_thread_whose_body_outlives_its_limit_is_replaced_and_ends(slots: Any) -> None:
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


def test_the_limit_is_raised_inside_the_body_too(slots: Any) -> None:
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


def test_a_body_that_sleeps_by_the_engines_clock_is_reached_in_between(slots: Any) -> None:
    stopped = threading.Event()

    def body(_: Any) -> None:
        try:
            SystemClock().sleep(timedelta(hours=1))
        except StageTimeout:
            stopped.set()

    with pytest.raises(StageTimeout):
        slots.call(body, MOMENT)

    assert stopped.wait(60)


@pytest.mark.parametrize("inner_timeout", [None, timedelta(minutes=10)])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_body_that_waits_for_another_body_is_reached_and_gives_that_up(
    slots: Any,
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


def test_a_result_in_the_last_moment_is_a_result(slots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def see_the_limit_pass_first(answer: Future[Any], _: timedelta) -> bool:
        wait([answer], 60)
        return False

    monkeypatch.setattr(body_threads, "_wait", see_the_limit_pass_first)

    assert slots.call(lambda _: 7, MOMENT) == 7
    assert slots.call(lambda _: 8, MOMENT) == 8


def test_each_body_sees_the_context_variables_of_its_own_caller(slots: Any) -> None:
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
    slots: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_after: list[int] = []
    django = ModuleType("django.db")
    django.close_old_connections = lambda: looked_after.append(threading.get_ident())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django.db", django)

    def count(thread: int) -> int:
        return looked_after.count(thread)  # a thread that another test left may end meanwhile

    thread, before = slots.call(lambda _: (threading.get_ident(), count(threading.get_ident())), LONG)

    assert (before, count(thread)) == (1, 2)


def test_django_that_is_not_set_up_fails_no_body(slots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django.db", ModuleType("django.db"))

    assert slots.call(lambda _: 7, LONG) == 7
