from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

from workflow_engine.store.records import Hint
from workflow_engine.worker.wire.due_timers import DueTimers


def hint(number: int) -> Hint:
    return Hint("01890000-0000-7000-8000-000000000000", number, "run", "extract", "workflow", 5)


class Sent:
    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self.arrived = threading.Event()

    def __call__(self, hints: Sequence[Hint]) -> None:
        self.hints.extend(hints)
        self.arrived.set()


def wait_until_it_waits(timers: DueTimers) -> None:
    for _ in range(1000):
        if timers._changed._waiters:  # type: ignore[attr-defined]
            return
        threading.Event().wait(0.01)
    raise AssertionError("the thread does not wait")


def test_a_hint_is_sent_when_it_is_due() -> None:
    sent = Sent()
    timers = DueTimers(sent, longest=timedelta(seconds=10))

    timers.add(hint(1), timedelta(milliseconds=1))

    assert sent.arrived.wait(10)
    assert sent.hints == [hint(1)]
    timers.stop()


def test_hints_become_due_in_order_of_their_time() -> None:
    now = 100.0
    timers = DueTimers(Sent(), longest=timedelta(seconds=10), monotonic=lambda: now)
    timers.add(hint(2), timedelta(seconds=2))
    timers.add(hint(3), timedelta(seconds=3))
    timers.add(hint(1), timedelta(seconds=1))

    now = 102.0

    assert timers.take_due() == [hint(1), hint(2)]
    timers.stop()


def test_a_hint_that_is_due_earlier_overtakes_one_that_the_thread_already_waits_for() -> None:
    sent = Sent()
    timers = DueTimers(sent, longest=timedelta(minutes=10))
    timers.add(hint(1), timedelta(minutes=5))
    wait_until_it_waits(timers)

    timers.add(hint(2), timedelta(0))

    assert sent.arrived.wait(10)
    assert sent.hints == [hint(2)]
    timers.stop()


def test_longer_waits_are_left_to_the_sweep() -> None:
    timers = DueTimers(Sent(), longest=timedelta(seconds=10))

    assert timers.add(hint(1), timedelta(seconds=11)) is False
    timers.stop()


def test_stopping_forgets_what_is_pending_and_leaves_no_thread() -> None:
    sent = Sent()
    timers = DueTimers(sent, longest=timedelta(minutes=10))
    timers.add(hint(1), timedelta(minutes=5))

    timers.stop()

    assert "workflow-due-timers" not in {thread.name for thread in threading.enumerate()}
    assert timers.take_due() == []
    assert sent.hints == []


def test_timers_that_were_stopped_start_again_with_the_next_hint() -> None:
    sent = Sent()
    timers = DueTimers(sent, longest=timedelta(seconds=10))
    timers.add(hint(1), timedelta(seconds=9))
    timers.stop()

    timers.add(hint(2), timedelta(0))

    assert sent.arrived.wait(10)
    assert sent.hints == [hint(2)]
    timers.stop()
