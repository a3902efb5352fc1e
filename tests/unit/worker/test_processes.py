from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from workflow_engine.worker.engine_holder import EngineHolder

#: Python 3.12 and later; forking beside threads is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


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


def pids_where(holder: EngineHolder, path: Path) -> list[int]:
    """Process ids in which the holder has work done."""
    holder.apart(lambda: path.write_text(f"{os.getpid()} {os.getppid()}"))
    return [int(word) for word in path.read_text().split()]


def test_a_process_that_forks_has_its_work_done_by_a_child_and_builds_no_engine(tmp_path: Path) -> None:
    built, closed = tmp_path / "built", tmp_path / "closed"

    class Engine(FakeEngine):
        def __init__(self) -> None:
            super().__init__()
            built.write_text(str(os.getpid()))

        def close(self) -> None:
            closed.write_text(str(os.getpid()))

    build: Any = Engine
    holder = EngineHolder(build)
    holder.expect_forks()
    holder.apart(holder.get)

    assert built.read_text() == closed.read_text() != str(os.getpid())


def test_other_processes_do_their_work_themselves(tmp_path: Path) -> None:
    holder = make_holder()

    assert pids_where(holder, tmp_path / "pids") == [os.getpid(), os.getppid()]


def test_a_forked_process_of_one_that_forks_does_its_work_itself(tmp_path: Path) -> None:
    holder = make_holder()
    holder.expect_forks()

    def check() -> bool:
        return pids_where(holder, tmp_path / "pids")[0] == os.getpid()

    assert in_child(check)
    assert pids_where(holder, tmp_path / "pids")[1] == os.getpid()


def test_a_fork_waits_for_no_work_that_is_done_apart() -> None:
    holder = make_holder()
    holder.expect_forks()
    begun, go_on = os.pipe(), os.pipe()

    def work() -> None:
        os.write(begun[1], b"x")
        os.read(go_on[0], 1)

    worker = threading.Thread(target=holder.apart, args=(work,))
    worker.start()
    os.read(begun[0], 1)

    assert in_child(lambda: holder.get() is not None)
    assert worker.is_alive()
    os.write(go_on[1], b"x")
    worker.join(60)
    assert not worker.is_alive()


def test_work_that_hangs_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    holder = make_holder()
    holder.expect_forks()

    holder.apart(threading.Event().wait, limit=timedelta(milliseconds=100))

    assert "hangs for 0:00:00.1" in caplog.text


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_error_of_the_work_stays_in_the_child(error: type[BaseException]) -> None:
    holder = make_holder()
    holder.expect_forks()

    def work() -> None:
        raise error

    holder.apart(work)


def test_the_child_ends_by_a_signal_that_would_stop_the_worker() -> None:
    holder = make_holder()
    holder.expect_forks()
    stopped: list[int] = []
    usual = signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))

    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(60)

    started = time.monotonic()
    holder.apart(work)
    signal.signal(signal.SIGTERM, usual)

    assert time.monotonic() - started < 50
    assert stopped == []


def test_signals_reach_the_parent_as_before() -> None:
    holder = make_holder()
    holder.expect_forks()
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    holder.apart(lambda: None)

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == masked


def test_a_child_that_something_else_has_waited_for_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = make_holder()
    holder.expect_forks()
    wait = os.waitpid

    def wait_twice(pid: int, _: int) -> tuple[int, int]:
        wait(pid, 0)
        return wait(pid, 0)

    monkeypatch.setattr(os, "waitpid", wait_twice)

    holder.apart(lambda: None)


def test_closing_closes_the_engine_and_the_next_use_builds_another() -> None:
    holder = make_holder()
    first: Any = holder.get()

    holder.close()

    assert first.closed
    assert holder.get() is not first
