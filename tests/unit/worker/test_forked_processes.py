"""Threads that find the broker away at once, and forked processes, which share nothing of what their parent had."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from workflow_engine.engine import new_worker_id
from workflow_engine.facade.runtime import WorkflowRuntime
from workflow_engine.store.records import Hint
from workflow_engine.worker.engine_holder import EngineHolder
from workflow_engine.worker.process.stage_requests import worker_id_prefix
from workflow_engine.worker.wire.broker_link import BrokerLink
from workflow_engine.worker.wire.broker_watch import BrokerWatch
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher
from workflow_engine.worker.wire.due_timers import DueTimers

HINT = Hint("01a20362-af31-770f-970e-87ceda9de7ec", 1, "run", "stage", "workflow", 5)


def test_threads_that_wait_while_the_broker_is_found_away_do_not_each_find_out_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[int] = []
    all_wait, is_over = threading.Barrier(6), threading.Event()

    def never_answers(_: BrokerLink) -> Any:
        tries.append(1)
        is_over.wait(10)
        raise ConnectionError("away")

    monkeypatch.setattr(BrokerLink, "_open", never_answers)
    runtime = WorkflowRuntime(database_url="sqlite://")
    dispatcher = CeleryDispatcher(Celery("shop", set_as_current=False), runtime.settings)

    def dispatch() -> None:
        all_wait.wait(10)
        dispatcher.dispatch([HINT])

    threads = [threading.Thread(target=dispatch) for _ in range(5)]
    for thread in threads:
        thread.start()
    all_wait.wait(10)
    threading.Event().wait(0.3)  # all of them have passed the first check
    is_over.set()
    for thread in threads:
        thread.join(10)

    assert len(tries) == 1


def test_a_link_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [ConnectionError("away"), "channel"]

    def open_once(_: BrokerLink) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(BrokerLink, "_open", open_once)
    link = BrokerLink(Celery("shop", set_as_current=False))
    with pytest.raises(ConnectionError):
        link.use(str)

    assert link.use(str) == "channel"


class Inherited:
    """An engine that was there before the fork; a second thread of the child asks for one in the middle of things."""

    def __init__(self, holder: EngineHolder, seen: list[Any]) -> None:
        self.holder = holder
        self.seen = seen
        self.is_first = True

    def after_fork(self) -> str:
        if self.is_first:
            self.is_first = False
            thread = threading.Thread(target=lambda: self.seen.append(self.holder.get()))
            thread.start()
            thread.join(10)
        return "own"


def test_no_thread_of_a_forked_process_gets_the_engine_of_the_parent() -> None:
    seen: list[Any] = []
    holder = EngineHolder(lambda: pytest.fail("there is one"))
    holder._engine = Inherited(holder, seen)  # type: ignore[assignment]
    holder._pid = -1

    seen.append(holder.get())

    assert seen == ["own", "own"]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (BrokerLink, [Celery(set_as_current=False)]),
        (BrokerWatch, [lambda: None, lambda: None]),
        (DueTimers, [lambda _: None, timedelta(1)]),
    ],
)
def test_a_forked_process_takes_over_only_when_nothing_of_the_parent_is_left(
    kind: type[Any], arguments: list[Any]
) -> None:
    order: list[str] = []

    class Recorded(kind):
        def __setattr__(self, name: str, value: object) -> None:
            order.append(name)
            super().__setattr__(name, value)

    made = Recorded(*arguments)
    order.clear()

    made._reset()

    assert order[-1] == "_pid"
    assert len(order) > 2


def test_no_thread_of_a_forked_process_uses_the_connections_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = WorkflowRuntime(database_url="sqlite://")
    runtime._pid = -1
    pids: list[int] = []
    monkeypatch.setattr(runtime._database, "forget_connections", lambda: pids.append(runtime._pid))

    _ = runtime.database

    assert pids == [-1]
    assert runtime._pid == os.getpid()


def test_timers_are_stopped_in_a_forked_process_though_the_parent_held_their_lock() -> None:
    timers = DueTimers(lambda _: None, timedelta(1))
    timers._changed.acquire()
    timers._pid = -1

    stopper = threading.Thread(target=timers.stop, daemon=True)
    stopper.start()
    stopper.join(5)

    assert not stopper.is_alive()


def test_processes_with_the_same_number_on_hosts_of_the_same_name_are_told_apart() -> None:
    """Containers may share a host's name (``network_mode: host``), and their pools have the same low numbers."""
    code = "from workflow_engine.worker.process.stage_requests import worker_id_prefix; print(worker_id_prefix(17))"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    assert other.split(":")[:2] == worker_id_prefix(17).split(":")[:2]
    assert not other.startswith(worker_id_prefix(17))
    assert new_worker_id().startswith(worker_id_prefix(os.getpid()))
    assert new_worker_id() != new_worker_id()
