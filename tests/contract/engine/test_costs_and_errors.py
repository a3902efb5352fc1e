"""Money is spent whatever became of the result, and every attempt keeps what it failed with."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import (
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
    define_stage,
)
from workflow_engine.engine import reap_worker, release_worker
from workflow_engine.engine.decisions.outcomes import Completed, Failed, Released
from workflow_engine.engine.transitions.finish import finish
from workflow_engine.errors import ErrorCode
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.records import AttemptOutcome, ClaimRequest, LogLine, Report, StageFailure
from workflow_engine.store.schema.tables import runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.facade.run_handle import RunHandle
    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

SPENT = Report(cost_nanos=250_000_000, tokens=7, logs=(LogLine(1, "info", "spent", "{}", 1),))
QUARTER = Decimal("0.25")


def workflow_of(body: Any, **options: Any) -> Any:
    return (
        WorkflowBuilder("one", input=int)
        .pipe(define_stage(id="a", execute=body, input=int, output=int, **options))
        .build()
    )


def ways_to_take_it_away(tester: WorkflowTester, run: RunHandle[Any]) -> dict[str, Callable[[], Any]]:
    engine = tester.engine
    return {
        "cancelled": lambda: tester.cancel(run.id),
        "cancelled and rerun": lambda: (tester.cancel(run.id), tester.rerun(run.id, from_stage="a")),
        "lost": lambda: reap_worker(engine, engine.worker_id),
        "released": lambda: release_worker(engine, engine.worker_id),
        "completed from outside": lambda: tester.complete_stage(run.id, "a", 5),
        "failed from outside": lambda: tester.fail_stage(run.id, "a", "no"),
        "past its deadline": lambda: (tester.advance(timedelta(hours=2)), tester.sweep()),
    }


WAYS = (
    "cancelled", "cancelled and rerun", "lost", "released", "completed from outside", "failed from outside",
    "past its deadline",
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_a_refused_attempt_cost_is_counted_once(start: Start, way: str) -> None:
    workflow = workflow_of(lambda _: 1)
    tester = start(workflow)
    run = tester.create_run(workflow, 1, deadline=timedelta(hours=1))
    [message] = tester.messages.waiting
    request = ClaimRequest(message.stage_run_id, 1, "nonce", tester.engine.worker_id, 30_000)
    taken = claim(tester.database, request)
    assert taken is not None
    ways_to_take_it_away(tester, run)[way]()

    accepted = [finish(tester.engine, taken, Completed("1"), SPENT) for _ in range(2)]

    first = tester.list_attempts(run.id, "a", history=True)[0]
    [stage_run] = [one for one in tester.list_stages(run.id, history=True) if one.id == message.stage_run_id]
    snapshot = run.snapshot()
    assert accepted == [False, False]
    assert (first.cost, first.tokens) == (stage_run.cost, stage_run.tokens) == (QUARTER, 7)
    assert (snapshot.total_cost, snapshot.total_tokens) == (QUARTER, 7)
    assert [line.message for line in run.list_logs(history=True).items] == ["spent"]
    tester.assert_consistent()


def test_a_refused_attempt_and_the_next_one_are_both_counted(start: Start) -> None:
    workflow = workflow_of(lambda ctx: ctx.report(cost=1, tokens=1) or 1)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    request = ClaimRequest(tester.messages.waiting[0].stage_run_id, 1, "nonce", tester.engine.worker_id, 30_000)
    taken = claim(tester.database, request)
    assert taken is not None
    release_worker(tester.engine, tester.engine.worker_id)

    tester.run_until_idle()
    finish(tester.engine, taken, Completed("2"), SPENT)

    assert run.output() == 1
    assert [attempt.cost for attempt in tester.list_attempts(run.id, "a")] == [QUARTER, 1]
    assert run.snapshot().total_cost == Decimal("1.25")


def test_what_an_attempt_cost_that_is_given_back_in_a_group_that_failed_is_counted(start: Start) -> None:
    members = [define_stage(id=name, execute=lambda _: 1, input=int, output=int) for name in ("a", "b")]
    workflow: Any = WorkflowBuilder("two", input=int).parallel(*members).build()
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    held: dict[str, Any] = {}
    for message in tester.messages.waiting:
        request = ClaimRequest(message.stage_run_id, 1, message.stage_id, tester.engine.worker_id, 30_000)
        held[message.stage_id] = claim(tester.database, request)
    finish(tester.engine, held["a"], Failed(StageFailure(ErrorCode.STAGE_ERROR, "ValueError", "no")), Report())

    finish(tester.engine, held["b"], Released(), SPENT)

    [attempt] = tester.list_attempts(run.id, "b")
    snapshot = run.snapshot()
    assert (attempt.outcome, attempt.cost) == (AttemptOutcome.RELEASED, QUARTER)
    assert (snapshot.status, snapshot.total_cost, snapshot.total_tokens) == (RunStatus.FAILED, QUARTER, 7)


def test_every_attempt_and_poll_shows_what_it_cost(start: Start) -> None:
    def body(ctx: StageContext[int]) -> Any:
        ctx.report(cost=ctx.attempt, tokens=10 * ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("down")
        return Suspend(1)

    def check(ctx: Any) -> int:
        ctx.report(cost=4)
        return 1

    waits = define_async_batch_stage(id="a", execute=body, check=check, input=int, output=int, state=int)
    workflow = (
        WorkflowBuilder("one", input=int)
        .pipe(waits)
        .pipe(define_stage(id="b", execute=lambda _: 1, input=int, output=int))
        .build()
    )
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    costs = [(attempt.cost, attempt.tokens) for attempt in tester.list_attempts(run.id, "a")]
    assert costs == [(1, 10), (2, 20), (4, 0)]
    assert [(attempt.cost, attempt.tokens) for attempt in tester.list_attempts(run.id, "b")] == [(0, 0)]
    assert [(stage.cost, stage.tokens) for stage in run.list_stages()] == [(7, 30), (0, 0)]


def fails_twice(ctx: StageContext[int]) -> int:
    if ctx.attempt < 3:
        raise ConnectionError(f"down {ctx.attempt}")
    return 1


@pytest.mark.parametrize("skips", [None, lambda ctx: ctx.attempt == 3], ids=["completed", "skipped"])
def test_a_stage_that_ended_well_shows_no_error_and_its_attempts_keep_theirs(start: Start, skips: Any) -> None:
    workflow = workflow_of(fails_twice, retry=Retry(max_attempts=3), skip_if=skips)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver()
    while_waiting = run.list_stages()[0].error
    tester.run_to_end(run)

    [stage] = run.list_stages()
    *failed, last = tester.list_attempts(run.id, "a")
    assert while_waiting is not None
    assert while_waiting.message == "down 1"
    assert (stage.status, stage.error) == (StageStatus.SKIPPED if skips else StageStatus.COMPLETED, None)
    assert [attempt.error.message for attempt in failed if attempt.error] == ["down 1", "down 2"]
    assert all("in fails_twice" in (attempt.error.traceback or "") for attempt in failed if attempt.error)
    assert last.error is None


def test_a_failure_reported_from_outside_is_kept_by_its_attempt(start: Start) -> None:
    workflow = (
        WorkflowBuilder("one", input=int)
        .pipe(
            define_async_batch_stage(
                id="a", execute=lambda _: Suspend(1), check=lambda _: 1, input=int, output=int, state=int
            )
        )
        .build()
    )
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()

    tester.fail_stage(run.id, "a", "the provider gave up")

    last = tester.list_attempts(run.id, "a")[-1]
    assert last.error is not None
    assert (last.outcome, last.error.code, last.error.message) == (
        AttemptOutcome.FAILED,
        "REPORTED",
        "the provider gave up",
    )


def test_a_rerun_has_a_start_and_a_duration_of_its_own(start: Start) -> None:
    workflow = workflow_of(lambda _: 1)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    tester.advance(timedelta(days=3))

    tester.rerun(run.id, from_stage="a")
    waiting = run.snapshot()
    tester.run_until_idle()

    ended = run.snapshot()
    assert (waiting.status, waiting.started_at, waiting.completed_at) == (RunStatus.RUNNING, None, None)
    assert ended.started_at is not None
    assert ended.started_at - ended.created_at >= timedelta(days=3)
    assert ended.duration is not None
    assert ended.duration < timedelta(hours=1)


def test_the_next_group_has_the_priority_that_the_run_has_by_then(start: Start) -> None:
    builder: Any = WorkflowBuilder("two", input=int)
    for name in ("a", "b"):
        builder = builder.pipe(define_stage(id=name, execute=lambda _: 1, input=int, output=int))
    workflow = builder.build()
    tester = start(workflow)
    run = tester.create_run(workflow, 1, priority=3)
    raised = runs.update().where(runs.c.id == run.id).values(priority=8)
    tester.database.transact(lambda tx: tx.execute(raised))

    tester.deliver()

    assert [stage.priority for stage in run.list_stages()] == [3, 8]
    assert [hint.priority for hint in tester.messages.waiting] == [8]
