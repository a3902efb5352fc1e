from __future__ import annotations

import os
import threading
from typing import Any

from workflow_engine.worker.processes import EngineHolder


class FakeEngine:
    def __init__(self) -> None:
        self.closed = False
        self.forked_from: FakeEngine | None = None

    def after_fork(self) -> FakeEngine:
        child = FakeEngine()
        child.forked_from = self
        return child

    def close(self) -> None:
        self.closed = True


def make_holder() -> EngineHolder:
    build: Any = FakeEngine
    return EngineHolder(build)


def in_child(work: Any) -> bool:
    """Return whether ``work`` is true in a forked process."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_process_keeps_its_engine() -> None:
    holder = make_holder()

    assert holder.get() is holder.get()


def test_a_forked_process_has_an_engine_of_its_own_and_does_not_close_its_parents() -> None:
    holder = make_holder()
    parents: Any = holder.get()

    def check() -> bool:
        engine: Any = holder.get()
        return engine is not parents and engine.forked_from is parents and not parents.closed

    assert in_child(check)
    assert holder.get() is parents


def test_a_lock_that_a_thread_of_the_parent_held_does_not_hold_up_the_child() -> None:
    holder = make_holder()
    with holder._lock:
        fine = in_child(lambda: holder.get() is not None)

    assert fine


def test_a_process_that_forks_keeps_no_engine() -> None:
    holder = make_holder()
    holder.expect_forks()

    with holder.visit() as first:
        pass
    with holder.visit() as second:
        open_while_lent = not second.closed  # type: ignore[attr-defined]

    assert first is not second
    assert first.closed  # type: ignore[attr-defined]
    assert open_while_lent


def test_other_processes_lend_the_engine_that_they_have() -> None:
    holder = make_holder()

    with holder.visit() as lent:
        assert lent is holder.get()

    assert not lent.closed  # type: ignore[attr-defined]


def test_no_fork_happens_while_an_engine_is_lent_in_a_process_that_forks() -> None:
    holder = make_holder()
    holder.expect_forks()
    lent, give_back = threading.Event(), threading.Event()

    def visit() -> None:
        with holder.visit():
            lent.set()
            give_back.wait(10)

    visitor = threading.Thread(target=visit)
    visitor.start()
    lent.wait(10)
    forker = threading.Thread(target=in_child, args=(lambda: True,))
    forker.start()
    forker.join(0.2)
    held_back = forker.is_alive()
    give_back.set()
    forker.join(10)
    visitor.join(10)

    assert held_back
    assert not forker.is_alive()


def test_closing_closes_the_engine_and_the_next_use_builds_another() -> None:
    holder = make_holder()
    first: Any = holder.get()

    holder.close()

    assert first.closed
    assert holder.get() is not first
