"""What a hostile reading of engine and store found: each test failed once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine import engine as commands
from workflow_engine.definition import Pending, Retry, Suspend, WorkflowBuilder, define_async_batch_stage, define_stage
from workflow_engine.engine import read_token
from workflow_engine.engine.upkeep import reap as reaping
from workflow_engine.engine.waits import runs as waits_for_runs
from workflow_engine.errors import ConfigurationError, DatabaseUnavailableError
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.moves.leases import expired_leases
from workflow_engine.store.reads.logs import list_logs
from workflow_engine.store.records import ClaimRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.facade.run_handle import RunHandle
    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def step(name: str, body: Callable[..., Any] = lambda ctx: ctx.input, **options: Any) -> Any:
    return define_stage(id=name, execute=body, input=int, output=Any, **options)


def chain(*stages: Any, name: str = "chain", **options: Any) -> Any:
    builder: Any = WorkflowBuilder(name, input=int, **options)
    for one in stages:
        builder = builder.pipe(one)
    return builder.build()


def polled(on_cancel: Callable[[Any], None], **options: Any) -> Any:
    return define_async_batch_stage(
        id="polled",
        execute=lambda _: Suspend(7),
        check=lambda _: Pending(),
        input=int,
        output=int,
        state=int,
        on_cancel=on_cancel,
        **options,
    )


def stage_of(run: RunHandle[Any], name: str) -> Any:
    return next(one for one in run.list_stages() if one.stage_id == name)


def cancelled_while_suspended(tester: WorkflowTester, workflow: Any) -> RunHandle[Any]:
    run = tester.create_run(workflow, 1)
    tester.deliver(tester.messages.waiting[-1])
    run.cancel()
    return run


def test_owed_clean_ups_that_nobody_takes_do_not_fill_the_queue(start: Start) -> None:
    workflow = chain(polled(lambda _: None))
    tester = start(workflow)
    cancelled_while_suspended(tester, workflow)

    for _ in range(12):  # a minute of sweeps; the worker is busy with what was sent before
        tester.advance(timedelta(seconds=5))
        tester.sweep()

    assert 2 <= len(tester.messages.waiting) <= 4


def test_owed_clean_ups_of_a_dead_queue_do_not_hold_up_others(start: Start) -> None:
    calls: list[int] = []
    dead, alive = (
        chain(polled(lambda ctx: calls.append(ctx.state), queue=queue), name=queue) for queue in ("dead", "alive")
    )
    tester = start(dead, alive, sweep_batch=2)
    for _ in range(2):
        cancelled_while_suspended(tester, dead)
    tester.advance(timedelta(seconds=1))
    cancelled_while_suspended(tester, alive)
    tester.messages.waiting.clear()

    for _ in range(4):
        tester.advance(timedelta(seconds=30))
        tester.sweep()
        for hint in [hint for hint in tester.messages.waiting if hint.queue == "alive"]:
            tester.deliver(hint)

    assert calls == [7]


def test_a_run_that_owes_a_clean_up_is_not_pruned(start: Start) -> None:
    calls: list[int] = []
    workflow = chain(polled(lambda ctx: calls.append(ctx.state)))
    tester = start(workflow)
    cancelled_while_suspended(tester, workflow)
    tester.advance(timedelta(days=1))

    early = commands.prune(tester.engine, older_than=timedelta(hours=1))
    tester.run_until_idle()
    late = commands.prune(tester.engine, older_than=timedelta(hours=1))

    assert (early, calls, late) == (0, [7], 1)


def family(tester_of: list[WorkflowTester], *children: Any) -> Any:
    def body(ctx: Any) -> Any:
        ids = [
            tester_of[0].create_run(child, 1, parent_run_id=ctx.run_id, parent_stage_run_id=ctx.stage_run_id).id
            for child in children
        ]
        return Suspend.until_runs(*ids)

    return chain(define_stage(id="waits", execute=body, input=int, output=dict[str, Any]), name="parent")


def test_a_child_that_its_live_parent_waits_for_is_not_pruned(start: Start) -> None:
    testers: list[WorkflowTester] = []
    quick, slow = chain(step("a"), name="quick"), chain(step("a"), name="slow")
    parent = family(testers, quick, slow)
    tester = start(parent, quick, slow)
    testers.append(tester)
    run = tester.create_run(parent, 1)
    tester.deliver()
    late = next(
        hint for hint in tester.messages.waiting if hint.run_id == tester.list_runs(workflow="slow").items[0].id
    )
    tester.messages.waiting.remove(late)
    tester.deliver()
    tester.advance(timedelta(hours=2))

    pruned = commands.prune(tester.engine, older_than=timedelta(hours=1))
    tester.deliver(late)
    tester.run_until_idle()

    assert (pruned, run.status) == (0, RunStatus.COMPLETED)
    tester.advance(timedelta(hours=2))
    assert commands.prune(tester.engine, older_than=timedelta(hours=1)) == 3


def test_a_failed_child_can_be_rerun_after_its_parent_gave_up(start: Start) -> None:
    testers: list[WorkflowTester] = []
    is_broken = [True]

    def work(_: Any) -> int:
        if is_broken[0]:
            raise ValueError("no")
        return 1

    child = chain(define_stage(id="a", execute=work, input=int, output=int, retry=Retry(max_attempts=1)), name="child")
    parent = family(testers, child)
    tester = start(parent, child)
    testers.append(tester)
    run = tester.create_run(parent, 1)
    tester.run_to_end(run)
    failed = tester.list_runs(workflow="child").items[0]
    is_broken[0] = False

    tester.advance(timedelta(seconds=1))
    tester.rerun(failed.id, from_stage="a")
    tester.sweep()
    tester.run_until_idle()

    assert tester.get_run(failed.id).status is RunStatus.COMPLETED


def test_a_rerun_child_is_cancelled_with_its_parent(start: Start) -> None:
    testers: list[WorkflowTester] = []
    attempts: list[int] = []

    def work(_: Any) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("no")
        return 1

    child = chain(define_stage(id="a", execute=work, input=int, output=int, retry=Retry(max_attempts=1)), name="child")

    def body(ctx: Any) -> Any:
        testers[0].create_run(child, 1, parent_run_id=ctx.run_id, parent_stage_run_id=ctx.stage_run_id)
        return Suspend(1)

    waits = define_async_batch_stage(
        id="waits", execute=body, check=lambda _: Pending(), input=int, output=int, state=int
    )
    parent = chain(waits, name="parent")
    tester = start(parent, child)
    testers.append(tester)
    run = tester.create_run(parent, 1)
    tester.run_until_idle()
    failed = tester.list_runs(workflow="child").items[0]
    tester.rerun(failed.id, from_stage="a")

    run.cancel()

    assert tester.get_run(failed.id).status is RunStatus.CANCELLED


def test_a_database_clock_that_was_put_back_does_not_stop_the_sweep(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    tester.advance(timedelta(hours=1))
    assert not tester.sweep(force=False).skipped
    tester.advance(timedelta(minutes=5))
    assert not tester.sweep(force=False).skipped  # live workers get a lease to renew first

    tester.advance(-timedelta(hours=1))
    run = tester.create_run(workflow, 1)
    hint = tester.messages.waiting.pop()
    claimed = _claim_and_die(tester, hint)
    tester.advance(timedelta(minutes=1))
    reports = []
    for _ in range(8):
        reports.append(tester.sweep(force=False))
        tester.advance(timedelta(seconds=5))

    assert claimed
    assert not any(report.skipped for report in reports)
    assert any("reaped" in report.repaired for report in reports)
    tester.run_to_end(run)


def _claim_and_die(tester: WorkflowTester, hint: Any) -> bool:
    request = ClaimRequest(hint.stage_run_id, hint.dispatch_number, "nonce", "host:1:abc", 30_000)
    return claim(tester.database, request) is not None


def test_one_run_that_cannot_be_reaped_does_not_hold_up_the_others(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    runs = [tester.create_run(workflow, 1) for _ in range(3)]
    for hint in list(tester.messages.waiting):
        assert _claim_and_die(tester, hint)
        tester.messages.waiting.remove(hint)
        tester.advance(timedelta(milliseconds=5))
    tester.advance(timedelta(minutes=1))
    first = tester.database.read(lambda tx: expired_leases(tx, 1))[0]
    reap = reaping.with_stage_run

    def locked(engine: Any, stage_run_id: str, act: Any) -> Any:
        if stage_run_id == first.stage_run_id:
            raise DatabaseUnavailableError("the run is locked by somebody's open session")
        return reap(engine, stage_run_id, act)

    monkeypatch.setattr(reaping, "with_stage_run", locked)

    report = commands.sweep(tester.engine, force=True)

    assert "locked" in report.errors["reaped"]
    statuses = sorted(stage_of(run, "a").status for run in runs)
    assert statuses == [StageStatus.PENDING, StageStatus.PENDING, StageStatus.RUNNING]


class Away:
    """A database that does not answer for a while."""

    def __init__(self, tester: WorkflowTester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        for name in ("read", "transact"):
            monkeypatch.setattr(tester.database, name, self._guard(getattr(tester.database, name)))

    def _guard(self, method: Any) -> Any:
        def call(work: Any, **options: Any) -> Any:
            if self.is_away:
                raise DatabaseUnavailableError("away")
            return method(work, **options)

        return call


def test_a_short_outage_of_the_database_does_not_fail_bodies_that_log_or_look_for_a_cancel(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [f"line {number}" for number in range(700)]

    def body(ctx: Any) -> int:
        away.is_away = True
        for line in written[:450]:
            ctx.log.info(line)
        tester.clock.skew += timedelta(seconds=2)
        seen = ctx.cancelled
        ctx.progress(0.5)
        away.is_away = False
        for line in written[450:]:
            ctx.log.info(line)
        return int(seen)

    workflow = chain(step("a", body))
    tester = start(workflow)
    away = Away(tester, monkeypatch)
    run = tester.create_run(workflow, 1)

    assert tester.deliver().result == "completed"

    assert run.output() == 0
    lines = tester.database.read(lambda tx: list_logs(tx, run.id)).items
    assert sorted((line.line, line.message) for line in lines) == list(enumerate(written, start=1))


def test_an_empty_signing_key_is_none(start: Start) -> None:
    tester = start(chain(step("a")), signing_key="")

    with pytest.raises(ConfigurationError, match="signing key"):
        read_token(tester.engine, "x.1.y")


def test_polls_for_runs_read_no_outputs_before_all_have_ended(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    testers: list[WorkflowTester] = []
    children = [chain(step("a"), name=f"child-{number}") for number in range(5)]
    parent = family(testers, *children)
    tester = start(parent, *children)
    testers.append(tester)
    read: list[int] = []
    original = waits_for_runs.read_run_results
    monkeypatch.setattr(waits_for_runs, "read_run_results", lambda tx, ids: read.append(len(ids)) or original(tx, ids))
    run = tester.create_run(parent, 1)

    while tester.messages.waiting:  # the last one first: each end is followed by a poll
        tester.deliver(tester.messages.waiting[-1])

    assert (run.status, read) == (RunStatus.COMPLETED, [5])
    assert stage_of(run, "waits").polls == 5
