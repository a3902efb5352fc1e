"""Long stages keep their lease, frozen workers lose it: on the real heartbeat thread, with the database's time turned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from workflow_engine.definition import StageContext, WorkflowBuilder, stage
from workflow_engine.errors import LeaseLost
from workflow_engine.lifecycle import RunStatus
from workflow_engine.testing.kit import WorkflowTester

LEASE = timedelta(seconds=0.6)
PATIENCE = 90.0


class Number(BaseModel):
    n: int


class Scene:
    """What the body does while it runs; set by the test."""

    during: Callable[[StageContext[Number]], int] = staticmethod(lambda ctx: ctx.input.n)


@stage
def act(ctx: StageContext[Number]) -> Number:
    return Number(n=Scene.during(ctx))


acting = WorkflowBuilder("acting", input=Number).pipe(act).build()


@pytest.fixture
def tester(database_url: str) -> Iterator[WorkflowTester]:
    with WorkflowTester(acting, database_url=database_url, lease=LEASE) as started:
        yield started
        started.assert_consistent(final=True)


def wait_for_heartbeat(tester: WorkflowTester) -> None:
    """Wait until the lease lasts for most of a period from now on: until the thread has renewed it."""
    remaining = sa.text("SELECT lease_until - workflow_now() FROM workflow_stages")
    tries = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if tester.database.read(lambda tx: tx.scalar(remaining)) > LEASE / timedelta(milliseconds=2):
            return
        tries.wait(0.02)
    pytest.fail("the lease is not renewed")


def test_a_stage_that_runs_ten_lease_periods_executes_once(
    tester: WorkflowTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = []

    def take_long(ctx: StageContext[Number]) -> int:
        executed.append(ctx.fence)
        for _ in range(11):
            tester.advance(LEASE * 0.95)
            wait_for_heartbeat(tester)
            assert "reaped" not in tester.sweep().repaired
        return ctx.input.n

    monkeypatch.setattr(Scene, "during", take_long)
    run = tester.create_run(acting, Number(n=1))
    tester.deliver()

    assert executed == [1]
    assert run.status is RunStatus.COMPLETED
    assert [attempt.outcome for attempt in tester.list_attempts(run.id, act)] == ["COMPLETED"]


def test_a_worker_frozen_beyond_its_lease_has_its_result_and_its_artifacts_refused(
    tester: WorkflowTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tester.new_engine()
    refused = []

    def freeze(ctx: StageContext[Number]) -> int:
        monkeypatch.setattr(Scene, "during", lambda _: 2)
        tester.advance(LEASE * 2)
        assert tester.sweep().repaired["reaped"] == 1
        assert tester.deliver(engine=other).result == "completed"
        try:
            ctx.storage.save("note", "late")
        except LeaseLost:
            refused.append("note")
        return 1

    monkeypatch.setattr(tester.engine.keeper, "renew", lambda: None)
    monkeypatch.setattr(Scene, "during", freeze)
    run = tester.create_run(acting, Number(n=0))

    late = tester.deliver()

    other.keeper.stop()
    assert late.result == "discarded"
    assert refused == ["note"]
    assert run.output() == Number(n=2)
    assert run.list_artifacts() == []
    assert [attempt.outcome for attempt in tester.list_attempts(run.id, act)] == ["LOST", "COMPLETED"]
