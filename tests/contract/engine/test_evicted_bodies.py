"""Bodies that another body's blocking call kept from going on have not failed: they are done again, uncounted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from workflow_engine.definition import Retry, Suspend, WorkflowBuilder, define_async_batch_stage, define_stage
from workflow_engine.engine.process.body_loops import Patience
from workflow_engine.engine.process.body_runner import BodyRunner
from workflow_engine.events import EventType
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.lifecycle import RunStatus
from workflow_engine.testing.kit import WorkflowTester

Start = Callable[..., WorkflowTester]


class Bench:
    """A worker with two slots, one of which executes a body that blocks the event loop."""

    def __init__(self) -> None:
        self._begun, self._blocked, self._released = threading.Event(), threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(2)
        self.times = 0
        self.greedy = define_stage(id="greedy", execute=self._block, input=int, output=int)

    async def wait_once(self, _: Any) -> int:
        """Wait for ever the first time."""
        self.times += 1
        if self.times == 1:
            self._begun.set()
            await asyncio.Event().wait()
        return self.times

    async def _block(self, _: Any) -> int:
        self._blocked.set()
        self._released.wait(60)
        return 0

    def deliver_both(self, tester: WorkflowTester) -> list[str]:
        """Deliver the message that waits and one of the greedy stage's; return what came of them."""
        bodies = BodyRunner(Patience(slice=0.02, start=0.1, blocked=0.5))
        engine = replace(tester.engine, bodies=bodies)
        tester.check = False  # in threads, and in between, there is nothing to check
        waits = self._pool.submit(tester.deliver, engine=engine)
        assert self._begun.wait(60)
        tester.create_run("greedy", 1)
        blocks = self._pool.submit(tester.deliver, engine=engine)
        results = [waits.result(60).result]
        self._released.set()
        results.append(blocks.result(60).result)
        bodies.stop()
        tester.check = True
        return results

    def close(self) -> None:
        self._released.set()
        self._pool.shutdown()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def workflow(*stages: Any, name: str) -> Any:
    builder: Any = WorkflowBuilder(name, input=int)
    for one in stages:
        builder = builder.parallel(*one) if isinstance(one, tuple) else builder.pipe(one)
    return builder.build()


def begin(start: Start, bench: Bench, flow: Any) -> tuple[WorkflowTester, RunHandle[Any]]:
    tester = start(flow, workflow(bench.greedy, name="greedy"))
    return tester, tester.create_run(flow, 1)


def types_of(run: RunHandle[Any]) -> list[EventType]:
    return [event.type for event in run.list_events()]


def test_a_stage_that_waits_on_a_blocked_loop_is_given_to_others_and_the_attempt_does_not_count(
    start: Start, bench: Bench
) -> None:
    once = Retry(max_attempts=1)
    patient = define_stage(id="patient", execute=bench.wait_once, input=int, output=int, retry=once)
    tester, run = begin(start, bench, workflow(patient, name="patient"))

    results = bench.deliver_both(tester)
    tester.run_to_end(run)

    assert results == ["released", "completed"]
    assert (run.output(), run.list_stages()[0].attempt) == (2, 1)
    assert EventType.STAGE_RELEASED in types_of(run)


def test_a_poll_that_waits_on_a_blocked_loop_is_made_again_and_does_not_count_as_failed(
    start: Start, bench: Bench
) -> None:
    batch = define_async_batch_stage(
        id="batch", execute=lambda _: Suspend(7), check=bench.wait_once, input=int, output=int, state=int
    )
    tester, run = begin(start, bench, workflow(batch, name="batch"))
    tester.deliver()
    tester.advance(tester.settings.poll_interval * 2)
    tester.sweep()

    results = bench.deliver_both(tester)
    left = run.list_stages()[0]
    tester.run_to_end(run)

    assert results == ["released", "completed"]
    assert (left.status.value, left.error) == ("SUSPENDED", None)
    assert (run.status, run.output()) == (RunStatus.COMPLETED, 2)
