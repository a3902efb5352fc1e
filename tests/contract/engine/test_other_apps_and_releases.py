"""What a worker does with work that it has no definition for, or that a later release wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine.definition import (
    Pending,
    Plan,
    Retry,
    Suspend,
    define_async_batch_stage,
)
from workflow_engine.engine import reap_worker, sweep
from workflow_engine.errors import RunStateError
from workflow_engine.events import EventType
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.reads.event_queries import list_events
from workflow_engine.store.reads.run_queries import find_run
from workflow_engine.store.reads.stage_queries import list_attempts, list_stages
from workflow_engine.store.schema.tables import runs, stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.engine import Engine
    from workflow_engine.facade.run_handle import RunHandle
    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

HOUR = timedelta(hours=1)


def polled(check: Callable[..., Any] = lambda ctx: ctx.state, **options: Any) -> Any:
    return define_async_batch_stage(
        id="waits", execute=lambda _: Suspend(7), check=check, input=int, output=int, state=int, **options
    )


OTHER_APP = chain(step("x"), name="other")


def be_taken_by(tester: WorkflowTester, worker: Engine, duration: timedelta, step: timedelta) -> int:
    """Let every message go to ``worker`` for so long; return how many there were."""
    count = 0
    for _ in range(duration // step):
        tester.advance(step)
        tester.sweep()
        while tester.messages.waiting:
            tester.deliver(engine=worker)
            count += 1
    return count


@pytest.mark.long(10)
def test_an_app_that_was_away_for_hours_finds_its_runs_as_it_left_them_and_takes_them_soon(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    stranger = tester.new_engine([OTHER_APP])
    tester.deliver(engine=stranger)

    burnt = be_taken_by(tester, stranger, 20 * HOUR, timedelta(minutes=2))
    given_back = stage_of(run)
    tester.advance(timedelta(minutes=5))
    tester.run_until_idle()

    assert burnt < 400
    assert (given_back.status, given_back.attempt) == (StageStatus.PENDING, 0)
    assert run.output() == 1


def test_the_pause_is_a_tenth_of_the_absence(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    stranger = tester.new_engine([OTHER_APP])
    pauses = []

    for after in (0, 1, 60, 600, 36_000):
        tester.advance(timedelta(seconds=after))
        tester.sweep()
        before = tester.now()
        tester.deliver(engine=stranger)
        pauses.append((stage_of(run).available_at - before).total_seconds())

    assert pauses == [pytest.approx(pause, rel=0.2, abs=0.5) for pause in (0.2, 0.2, 6, 66, 300)]


def test_a_workflow_that_nobody_knows_fails_after_a_grace_of_its_own(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow, unknown_workflow_grace=3 * HOUR)
    run = tester.create_run(workflow, 1)
    stranger = tester.new_engine([OTHER_APP])

    be_taken_by(tester, stranger, 2 * HOUR, timedelta(minutes=10))
    before = run.status
    be_taken_by(tester, stranger, 2 * HOUR, timedelta(minutes=10))

    assert before is RunStatus.RUNNING
    assert (run.status, run.snapshot().error_code) == (RunStatus.FAILED, "DEFINITION_MISMATCH")
    assert "(registered: other)" in str(run.snapshot().error_message)


def test_the_short_grace_for_a_missing_stage_begins_when_the_stage_is_first_missed(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    be_taken_by(tester, tester.new_engine([OTHER_APP]), 2 * HOUR, timedelta(minutes=10))
    other_version = tester.new_engine([chain(step("b"))])

    be_taken_by(tester, other_version, timedelta(minutes=8), timedelta(minutes=2))
    before = run.status
    be_taken_by(tester, other_version, timedelta(minutes=20), timedelta(minutes=5))

    assert before is RunStatus.RUNNING
    assert run.snapshot().error_code == "DEFINITION_MISMATCH"
    assert "(stages: b)" in str(run.snapshot().error_message)


def test_attempts_that_were_given_back_say_why(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver(engine=tester.new_engine([OTHER_APP]))

    [attempt] = tester.database.read(lambda tx: list_attempts(tx, run.id, "a"))
    assert attempt.outcome is not None
    assert (attempt.outcome.value, attempt.error.type) == ("RELEASED", "UnknownWorkflow")


def test_a_clean_up_is_left_to_a_worker_that_knows_the_stage(start: Start) -> None:
    cleaned: list[int] = []
    workflow = chain(polled(lambda _: Pending(), on_cancel=lambda ctx: cleaned.append(ctx.state)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    run.cancel()

    be_taken_by(tester, tester.new_engine([OTHER_APP]), 10 * HOUR, timedelta(minutes=5))
    before = list(cleaned)
    tester.advance(timedelta(minutes=6))
    tester.run_until_idle()

    assert (before, cleaned) == ([], [7])


def test_a_clean_up_that_nobody_knows_is_given_up_after_the_grace(start: Start) -> None:
    workflow = chain(polled(lambda _: Pending()))
    tester = start(workflow, unknown_workflow_grace=HOUR)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    run.cancel()

    be_taken_by(tester, tester.new_engine([OTHER_APP]), 2 * HOUR, timedelta(minutes=5))

    tester.assert_consistent(final=True)


def test_a_poll_that_an_older_definition_lacks_is_given_back(start: Start) -> None:
    workflow = chain(polled())
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    older = tester.new_engine([chain(step("waits"))])
    tester.advance(timedelta(seconds=31))
    tester.sweep()

    performed = tester.deliver(engine=older)
    tester.run_to_end(run)

    assert (performed.result, run.output()) == ("mismatched", 7)


# ---------------------------------------------------------------------------------------------- plans of later releases


def rewrite_plan(tester: WorkflowTester, run: RunHandle[Any], change: Callable[[dict[str, Any]], Any]) -> None:
    """Make the plan what a later release might have written."""

    def work(tx: sa.Connection) -> None:
        plan = json.loads(tx.scalar(sa.select(runs.c.plan).where(runs.c.id == run.id)) or "{}")
        change(plan)
        tx.execute(sa.update(runs).where(runs.c.id == run.id).values(plan=json.dumps(plan)))

    tester.database.transact(work)


def test_fields_of_a_plan_that_are_not_known_are_passed_over(start: Start) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    rewrite_plan(tester, run, lambda plan: plan.update(colour="red") or plan["groups"][0][0].update(wait={"kind": "x"}))

    tester.run_to_end(run)

    assert run.output() == 1


def test_a_plan_that_needs_more_is_given_back_before_the_body_runs(start: Start) -> None:
    calls: list[int] = []
    workflow = chain(step("a", lambda _: calls.append(1)))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    rewrite_plan(tester, run, lambda plan: plan.update(needs=2))

    performed = tester.deliver()

    found = stage_of(run)
    assert (performed.result, calls, found.status, found.attempt) == ("mismatched", [], StageStatus.PENDING, 0)


@pytest.mark.parametrize("change", ["needs", "policy", "no groups"])
@pytest.mark.parametrize("end", ["reap", "fail", "cancel", "deadline", "queue_timeout", "max_wait"])
def test_what_ends_things_ends_those_of_a_later_release_too(start: Start, change: str, end: str) -> None:
    def body(ctx: Any) -> Any:
        rewrite_plan(tester, run, CHANGES[change])
        if end == "reap":
            reap_worker(tester.engine, tester.engine.worker_id)
        if end == "fail":
            raise ValueError
        return Suspend(7, max_wait=HOUR)

    stage = define_async_batch_stage(
        id="a", execute=body, check=lambda _: Pending(), input=int, output=int, state=int,
        retry=Retry(1), max_crashes=1, queue_timeout=HOUR,
    )  # fmt: skip
    workflow = chain((stage, step("b", queue_timeout=HOUR)))
    tester = start(workflow, final_poll_grace=timedelta(seconds=1))
    run = tester.create_run(workflow, 1, deadline=4 * HOUR if end == "deadline" else None)
    if end == "queue_timeout":
        rewrite_plan(tester, run, CHANGES[change])
    else:
        tester.deliver()
    if end == "cancel":
        run.cancel()

    for _ in range(3):
        tester.messages.waiting.clear()
        tester.advance(2 * HOUR)
        tester.sweep()

    assert run.status is (RunStatus.CANCELLED if end == "cancel" else RunStatus.FAILED)


class BrokenRegistry:
    def get_workflow(self, workflow_id: str) -> Any:
        raise LookupError(workflow_id)


@pytest.mark.parametrize("limit", ["deadline", "max_wait"])
def test_limits_end_what_a_registry_of_the_users_cannot_look_up(start: Start, limit: str) -> None:
    workflow = chain(polled(lambda _: Pending(), max_wait=HOUR))
    tester = start(workflow, final_poll_grace=timedelta(seconds=1))
    run = tester.create_run(workflow, 1, deadline=2 * HOUR if limit == "deadline" else None)
    tester.deliver()
    sweeper = tester.new_engine(BrokenRegistry())

    for _ in range(2):
        tester.advance(3 * HOUR)
        assert sweep(sweeper, force=True).errors == {}

    assert run.status is RunStatus.FAILED


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "needs": lambda plan: plan.update(needs=9),
    "policy": lambda plan: plan.update(on_failure=["ask_somebody"]),
    "no groups": lambda plan: plan.pop("groups"),
}


def test_an_outcome_from_outside_is_refused_where_what_follows_is_not_understood(start: Start) -> None:
    workflow = chain(polled(), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    rewrite_plan(tester, run, lambda plan: plan.update(needs=2))

    with pytest.raises(RunStateError, match="a later release"):
        tester.complete_stage(run.id, "waits", 1)

    assert stage_of(run, "waits").status is StageStatus.SUSPENDED
    assert tester.fail_stage(run.id, "waits", "no")


def test_a_wait_of_an_unknown_kind_is_given_back_when_it_is_due(start: Start) -> None:
    workflow = chain(polled())
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    set_columns(tester, stages, suspended_on="signal")
    tester.advance(timedelta(seconds=31))
    tester.sweep()

    performed = tester.deliver()

    assert (performed.result, stage_of(run, "waits").status) == ("mismatched", StageStatus.SUSPENDED)


def test_plans_of_this_release_are_read_by_the_last_one() -> None:
    plan = chain(step("a")).plan()

    assert set(json.loads(plan.to_json())) == {"groups", "on_failure", "fingerprint"}
    assert json.loads(replace(plan, needs=2).to_json())["needs"] == 2
    assert Plan.from_json(plan.to_json()) == plan


# ------------------------------------------------------------------------------------------------- names nobody knows


def set_columns(tester: WorkflowTester, table: sa.Table, **values: Any) -> None:
    tester.database.transact(lambda tx: tx.execute(sa.update(table).values(**values)))


def test_readers_show_names_that_a_later_release_wrote(records: Any) -> None:
    run_id = records.run(status="FAILED", error_code="NEW_CODE")
    stage_run_id = records.stage(run_id, "a", status="FAILED", error_code="NEW_CODE")
    records.insert(
        "workflow_attempts", stage_run_id=stage_run_id, fence=1, kind="DREAM", attempt=1, lease_id="x", worker_id="w",
        started_at=1, ended_at=2, outcome="FORGOTTEN", error_code="NEW_CODE",
    )  # fmt: skip
    records.insert("workflow_events", run_id=run_id, sequence=1, generation=0, type="stage.teleported", created_at=1)

    read = records.database.read
    [attempt] = read(lambda tx: list_attempts(tx, run_id, "a"))
    [shown] = read(lambda tx: list_stages(tx, run_id))
    [event] = read(lambda tx: list_events(tx, run_id))
    snapshot = read(lambda tx: find_run(tx, run_id))

    assert (event.type, attempt.kind, attempt.outcome) == ("stage.teleported", "DREAM", "FORGOTTEN")
    assert [attempt.error.code, shown.error.code, snapshot.error_code] == ["NEW_CODE"] * 3
    assert isinstance(event.type, EventType)
    assert event.type not in list(EventType)
