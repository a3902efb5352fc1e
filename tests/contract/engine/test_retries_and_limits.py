"""Attempts that fail, and everything that has a limit in time."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine.definition import Retry
from workflow_engine.engine import release_worker
from workflow_engine.errors import (
    DefinitionError,
    InvalidDataError,
    PayloadError,
    RetryAfter,
    StageOutputMissing,
    StageSkipped,
    StageTimeout,
)
from workflow_engine.events import EventType
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.schema.tables import stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def fails_with(error: BaseException) -> Callable[[Any], Any]:
    def body(_: Any) -> Any:
        raise error

    return body


def delays_of(run: RunHandle[Any]) -> list[int]:
    return [event.payload["delay_ms"] for event in run.list_events() if event.type is EventType.STAGE_RETRYING]


def test_waits_grow_by_the_factor_up_to_the_longest_and_are_drawn_by_the_injected_random(start: Start) -> None:
    retry = Retry(max_attempts=5, backoff=timedelta(seconds=2), factor=3, max_backoff=timedelta(seconds=30))
    workflow = chain(step("a", fails_with(ConnectionError()), retry=retry))
    tester = start(workflow, random=lambda: 0.25)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    assert delays_of(run) == [1250, 3750, 11_250, 18_750]
    assert stage_of(run).attempt == 5


def test_retry_after_names_the_wait_and_uses_up_no_attempt(start: Start) -> None:
    def body(ctx: Any) -> int:
        if ctx.attempt in {1, 2, 4}:
            raise RetryAfter(timedelta(minutes=7), "busy")
        if ctx.attempt == 3:
            raise ValueError
        return int(ctx.attempt)

    workflow = chain(step("a", body, retry=Retry(2, backoff=timedelta(seconds=9), jitter=False)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    assert delays_of(run) == [420_000, 420_000, 9_000, 420_000]
    assert run.output() == 5


def test_after_a_postponement_the_stage_has_all_its_attempts(start: Start) -> None:
    def body(ctx: Any) -> int:
        raise RetryAfter(timedelta(0)) if ctx.attempt == 1 else ValueError("no")

    workflow = chain(step("a", body, retry=Retry(2)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    assert (stage_of(run).attempt, stage_of(run).error.message) == (3, "no")


def test_postponements_are_bounded(start: Start) -> None:
    workflow = chain(step("a", fails_with(RetryAfter(timedelta(0), "busy")), retry=Retry(max_attempts=1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    tester.database.transact(lambda tx: tx.execute(sa.update(stages).values(postponements=99)))

    tester.run_to_end(run)

    found = stage_of(run)
    assert (found.status, found.attempt) == (StageStatus.FAILED, 3)
    assert found.error.message == "postponed more than 100 times; the last time: busy"


def test_retry_after_wins_over_retry_on_and_a_wait_beyond_the_calendar_is_cut(start: Start) -> None:
    workflow = chain(step("a", fails_with(RetryAfter(timedelta.max)), retry=Retry(retry_on=(LookupError,))))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver()

    assert stage_of(run).status is StageStatus.PENDING
    assert stage_of(run).available_at - tester.now() < timedelta(days=36_501)


@pytest.mark.parametrize(
    ("error", "retry", "attempts"),
    [
        (KeyError("x"), Retry(max_attempts=2), 2),
        (KeyError("x"), Retry(max_attempts=2, give_up_on=(LookupError,)), 1),
        (KeyError("x"), Retry(max_attempts=2, retry_on=(ConnectionError,)), 1),
        (ConnectionResetError("x"), Retry(max_attempts=2, retry_on=(ConnectionError,)), 2),
        (InvalidDataError("input", ["x"]), Retry(max_attempts=2), 1),
        (DefinitionError("x"), Retry(max_attempts=2), 1),
        (PayloadError("x"), Retry(max_attempts=2), 1),
        (StageOutputMissing("x"), Retry(max_attempts=2), 1),
        (StageSkipped("x"), Retry(max_attempts=2), 1),
        (SystemExit(3), Retry(max_attempts=2), 1),
        (KeyboardInterrupt(), Retry(max_attempts=2), 1),
        (MemoryError(), Retry(max_attempts=2), 2),
        (GeneratorExit(), Retry(max_attempts=2), 1),
        (ExceptionGroup("many", [ValueError("x")]), Retry(max_attempts=2), 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_is_tried_again(start: Start, error: BaseException, retry: Retry, attempts: int) -> None:
    workflow = chain(step("a", fails_with(error), retry=retry))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    assert (stage_of(run).status, stage_of(run).attempt) == (StageStatus.FAILED, attempts)
    assert stage_of(run).error.type.endswith(type(error).__name__)


class Mute(Exception):  # noqa: N818 - it says nothing
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    "error",
    [Mute(), ValueError("\ud800 \x00"), ValueError("x" * 10_000_000), ValueError(b"\xff"), ValueError(ValueError)],
    ids=["mute", "unstorable", "huge", "bytes", "class"],
)
def test_recording_a_failure_does_not_fail(start: Start, error: BaseException) -> None:
    workflow = chain(step("a", fails_with(error), retry=Retry(max_attempts=1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    assert tester.deliver().result == "failed"

    recorded = stage_of(run).error
    assert len(recorded.message) <= 8192
    assert len(recorded.traceback) <= 65_536
    assert run.snapshot().error_message == recorded.message


def test_a_long_text_without_spaces_is_redacted_in_no_time(start: Start) -> None:
    blob = "token" * 12_000

    def body(ctx: Any) -> int:
        ctx.log.info(blob, blob=blob)
        raise ValueError(blob)

    workflow = chain(step("a", body, retry=Retry(max_attempts=1)))
    tester = start(workflow)
    tester.create_run(workflow, 1)
    before = time.perf_counter()

    tester.deliver()

    assert time.perf_counter() - before < 20


def test_an_attempt_past_its_time_limit_is_ended_and_tried_again(start: Start) -> None:
    released = threading.Event()

    def body(ctx: Any) -> int:
        if ctx.attempt == 1:
            released.wait(60)
        return int(ctx.attempt)

    workflow = chain(step("a", body, timeout=timedelta(milliseconds=50)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    first = tester.deliver().result
    recorded = stage_of(run).error.code
    released.set()
    tester.run_to_end(run)

    assert (first, recorded, run.output()) == ("retrying", "TIMEOUT", 2)


def test_a_body_that_ignores_its_time_limit_goes_on_for_nobody(start: Start) -> None:
    released, ended = threading.Event(), threading.Event()

    def body(ctx: Any) -> int:
        while not released.is_set():
            try:
                released.wait(0.01)
            except StageTimeout:
                continue
        ctx.report(cost=99)
        ended.set()
        return 1

    once = Retry(max_attempts=1)
    workflow = chain(step("a", body, timeout=timedelta(milliseconds=50), retry=once))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    result = tester.deliver().result
    released.set()

    assert ended.wait(30)
    assert (result, stage_of(run).error.code, stage_of(run).cost) == ("failed", "TIMEOUT", 0)


def test_an_async_body_past_its_time_limit_is_cancelled(start: Start) -> None:
    cancelled = threading.Event()

    async def body(ctx: Any) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return 1

    workflow = chain(step("a", body, timeout=timedelta(milliseconds=50), retry=Retry(max_attempts=1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    result = tester.deliver().result

    assert cancelled.wait(30)
    assert (result, stage_of(run).error.code) == ("failed", "TIMEOUT")


def test_an_async_bodys_own_timeout_error_is_its_own(start: Start) -> None:
    async def body(ctx: Any) -> int:
        raise TimeoutError("upstream")

    workflow = chain(step("a", body, timeout=timedelta(seconds=30), retry=Retry(max_attempts=1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver()

    assert (stage_of(run).error.code, stage_of(run).error.message) == ("STAGE_ERROR", "upstream")


def test_a_stage_that_nobody_takes_in_time_fails(start: Start) -> None:
    workflow = chain(step("a", queue_timeout=timedelta(minutes=5)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.messages.waiting.clear()

    tester.advance(timedelta(minutes=5, seconds=1))
    tester.sweep()

    assert (stage_of(run).error.code, run.status) == ("QUEUE_TIMEOUT", RunStatus.FAILED)


@pytest.mark.parametrize("how", ["retry", "release"])
def test_a_stage_that_was_taken_once_does_not_run_into_its_queue_timeout(start: Start, how: str) -> None:
    def body(ctx: Any) -> int:
        if ctx.fence == 1:
            tester.advance(timedelta(minutes=6))
            if how == "retry":
                raise ConnectionError
            release_worker(tester.engine, tester.engine.worker_id)
            tester.sweep()
        return int(ctx.attempt)

    workflow = chain(step("a", body, queue_timeout=timedelta(minutes=5)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    assert run.output() == (2 if how == "retry" else 1)


@pytest.mark.parametrize(
    "deadline",
    [timedelta(0), timedelta(days=-1), timedelta.max, 60, "soon", datetime(2030, 1, 1)],  # noqa: DTZ001
)
def test_a_deadline_that_makes_no_sense_is_refused(start: Start, deadline: Any) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)

    with pytest.raises(InvalidDataError, match="deadline"):
        tester.create_run(workflow, 1, deadline=deadline)

    assert tester.list_runs().items == ()


def test_a_run_starts_after_the_instant_it_was_given(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    late = tester.create_run(workflow, 1, start_after=tester.now() + timedelta(hours=1))
    early = tester.create_run(workflow, 2, start_after=tester.now() - timedelta(hours=1))
    tester.run_until_idle()
    before = (late.status, early.status)

    tester.advance(timedelta(hours=1, seconds=1))
    tester.run_until_idle()

    assert before == (RunStatus.PENDING, RunStatus.COMPLETED)
    assert late.output() == 1


@pytest.mark.parametrize("limit", ["deadline", "queue_timeout"])
def test_after_an_absence_of_the_sweep_what_was_done_in_time_wins_over_its_limit(start: Start, limit: str) -> None:
    hour = timedelta(hours=1)
    workflow = chain(step("a", queue_timeout=hour if limit == "queue_timeout" else None))
    tester = start(workflow)
    tester.sweep(force=False)
    run = tester.create_run(workflow, 1, deadline=hour if limit == "deadline" else None)
    tester.advance(timedelta(days=1))

    tester.sweep(force=False)
    tester.run_until_idle()

    assert run.output() == 1


@pytest.mark.parametrize("limit", ["deadline", "queue_timeout"])
def test_limits_are_enforced_once_the_grace_after_an_absence_is_over(start: Start, limit: str) -> None:
    hour = timedelta(hours=1)
    workflow = chain(step("a", queue_timeout=hour if limit == "queue_timeout" else None))
    tester = start(workflow)
    tester.sweep(force=False)
    run = tester.create_run(workflow, 1, deadline=hour if limit == "deadline" else None)
    tester.advance(timedelta(days=1))
    statuses = []

    for _ in range(8):
        tester.sweep(force=False)
        statuses.append(run.status.value)
        tester.advance(timedelta(seconds=5))

    assert statuses[:6] == ["PENDING"] * 6
    assert statuses[-1] == "FAILED"
