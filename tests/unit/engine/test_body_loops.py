"""Async bodies on event loops: no body holds up another for good, and none is lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from datetime import timedelta
from typing import Any

import pytest

from workflow_engine.engine.process.body_loops import BodyEvictedError, Patience
from workflow_engine.engine.process.body_runner import BodyRunner
from workflow_engine.errors import StageTimeout

MOMENT = timedelta(milliseconds=50)
LONG = timedelta(seconds=60)


async def harmless(_: Any) -> str:
    await asyncio.sleep(0)
    return "done"


def waiting(begun: threading.Event) -> Callable[[Any], Any]:
    """An async body that awaits something that never comes."""

    async def body(_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    return body


def blocking(slots: Any, begun: threading.Event) -> Callable[[Any], Any]:
    """An async body that calls something that does not await."""

    async def body(_: Any) -> str:
        begun.set()
        slots.block()
        return "late"

    return body


def time_out(slots: Any, body: Callable[[Any], Any], begun: Callable[[], object]) -> StageTimeout:
    """Call the body until its limit has passed after it began: on a busy machine the limit can pass before."""
    while True:
        with pytest.raises((StageTimeout, BodyEvictedError)) as raised:
            slots.call(body, MOMENT)
        if begun():
            assert isinstance(raised.value, StageTimeout)
            return raised.value


# ------------------------------------------------------------------------------------------- blocking calls in async code


def test_an_async_body_that_blocks_ends_at_its_limit_and_others_run_on(slots: Any) -> None:
    begun = threading.Event()

    error = time_out(slots, blocking(slots, begun), begun.is_set)

    assert re.search(r"0:00:00\.05\S*, and blocks the event loop", str(error))
    assert [slots.call(harmless, LONG), slots.call(harmless)] == ["done", "done"]


def test_the_log_names_the_stage_that_blocks_the_loop_and_shows_where(
    slots: Any, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()
    while not begun.is_set():
        wait([slots.begin("greedy", blocking(slots, begun), MOMENT)], 60)

    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert 'stage "greedy" of run run-1 blocks it' in line
    assert "slots.block()" in line


def test_a_body_without_a_limit_that_has_not_begun_moves_to_another_loop(slots: Any) -> None:
    begun = threading.Event()
    greedy = slots.begin("greedy", blocking(slots, begun))
    assert begun.wait(60)

    result = slots.begin("other", harmless).result(60)

    assert result == "done"
    assert not greedy.done()


def test_a_body_without_a_limit_that_is_caught_on_a_blocked_loop_is_given_up(slots: Any) -> None:
    begun, blocked = threading.Event(), threading.Event()
    other = slots.begin("other", waiting(begun))
    assert begun.wait(60)
    greedy = slots.begin("greedy", blocking(slots, blocked))

    with pytest.raises(BodyEvictedError, match='by stage "greedy" of run run-1'):
        other.result(60)

    assert not greedy.done()


def test_a_body_that_blocks_for_long_still_delivers_its_result(slots: Any) -> None:
    begun, blocked = threading.Event(), threading.Event()
    other = slots.begin("other", waiting(begun))
    assert begun.wait(60)
    greedy = slots.begin("greedy", blocking(slots, blocked), LONG)
    wait([other], 60)  # the loop is known to be blocked

    slots.released.set()

    assert greedy.result(60) == "late"


def test_a_limit_that_passes_on_a_blocked_loop_names_the_stage_that_blocks(slots: Any) -> None:
    slots.runner = BodyRunner(Patience(slice=0.02, start=0.1, blocked=60))
    begun, blocked = threading.Event(), threading.Event()
    other = slots.begin("other", waiting(begun), timedelta(seconds=1))
    assert begun.wait(60)
    slots.begin("greedy", blocking(slots, blocked))

    with pytest.raises(StageTimeout, match=r'0:00:01; meanwhile .* by stage "greedy" of run run-1'):
        other.result(60)


def test_a_body_that_could_not_begin_within_its_limit_has_not_failed(slots: Any) -> None:
    blocked = threading.Event()
    slots.begin("greedy", blocking(slots, blocked))
    assert blocked.wait(60)

    with pytest.raises(BodyEvictedError, match="before the body began"):
        slots.call(harmless, MOMENT)


def test_a_task_of_a_body_that_blocks_is_laid_at_the_bodys_door(slots: Any) -> None:
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


def test_where_no_stage_can_be_blamed_every_body_on_the_loop_fails(slots: Any) -> None:
    async def body(_: Any) -> None:
        asyncio.get_running_loop().call_soon(slots.block)
        await asyncio.Event().wait()

    with pytest.raises(StageTimeout, match="by a callback that belongs to no stage"):
        slots.call(body)


def test_a_loop_that_was_left_ends_with_its_last_body(slots: Any) -> None:
    threads: list[threading.Thread] = []

    async def body(_: Any) -> None:
        threads.append(threading.current_thread())
        slots.block()

    time_out(slots, body, lambda: threads)
    slots.released.set()
    threads[0].join(60)

    assert not threads[0].is_alive()


# ----------------------------------------------------------------------------------------------------- what bodies leave


def test_a_body_that_waits_for_what_nobody_else_refers_to_is_kept(slots: Any) -> None:
    begun = threading.Event()
    body = slots.begin("one", waiting(begun))
    assert begun.wait(60)

    gc.collect()

    assert not wait([body], 0.1).done
    slots.runner.stop()


def test_a_body_that_swallows_its_cancellation_holds_up_nobody(slots: Any) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def body(_: Any) -> None:
        begun.set()
        while not slots.released.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                cancelled.set()

    time_out(slots, body, begun.is_set)

    assert cancelled.wait(60)
    assert slots.call(harmless, LONG) == "done"


def test_a_body_is_cancelled_once_so_that_it_can_clean_up(slots: Any) -> None:
    begun, cleaned = threading.Event(), threading.Event()

    async def body(_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    time_out(slots, body, begun.is_set)

    assert cleaned.wait(60)


def test_tasks_of_a_body_past_its_limit_are_cancelled_with_it(slots: Any) -> None:
    begun, cancelled = threading.Event(), threading.Event()
    kept: list[Any] = []

    async def child() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()

    async def body(_: Any) -> None:
        kept.append(asyncio.create_task(child()))
        await asyncio.Event().wait()

    time_out(slots, body, begun.is_set)

    assert cancelled.wait(60)


def test_tasks_of_a_body_that_has_ended_well_go_on(slots: Any) -> None:
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
def test_whatever_a_body_raises_reaches_its_caller_and_no_other_body(slots: Any, error: type[BaseException]) -> None:
    async def body(_: Any) -> None:
        raise error

    with pytest.raises(error):
        slots.call(body)

    assert slots.call(harmless) == "done"


def test_a_task_that_exits_does_not_end_the_loop(slots: Any) -> None:
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
    slots: Any, body: Callable[[Any], Any], timeout: timedelta | None
) -> None:
    with pytest.raises(CancelledError) as raised:
        slots.call(body, timeout)

    assert isinstance(raised.value, Exception)
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)


def test_stopping_ends_the_bodies_that_still_run(slots: Any) -> None:
    begun = threading.Event()
    body = slots.begin("one", waiting(begun))
    assert begun.wait(60)

    slots.runner.stop()

    with pytest.raises(CancelledError):
        body.result(60)
