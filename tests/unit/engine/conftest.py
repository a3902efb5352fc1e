"""Slots of a worker, without the worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from workflow_engine.engine.process.body_loops import Patience
from workflow_engine.engine.process.body_runner import BodyRunner
from workflow_engine.log_context import ExecutedStage, executing

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
