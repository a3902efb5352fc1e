"""The doctor's answers, each when all is well and when it is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_engine.clock import to_milliseconds
from workflow_engine.definition import Pending, PollContext, StageContext, Suspend, WorkflowBuilder, stage
from workflow_engine.engine.upkeep import doctor
from workflow_engine.engine.upkeep.doctor import Diagnosis, Finding, Health, Limits, check_access, examine
from workflow_engine.store.connection.database import Database
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.records import ClaimRequest
from workflow_engine.testing.kit import WorkflowTester

Start = Callable[..., WorkflowTester]

SWEEP_INTERVAL = timedelta(seconds=5)
#: What the sweep may take, with the default settings.
PATIENCE = SWEEP_INTERVAL * 3 + timedelta(seconds=10)


class Number(BaseModel):
    n: int


@stage
def double(ctx: StageContext[Number]) -> Number:
    return Number(n=2 * ctx.input.n)


def ask(_ctx: PollContext[Number]) -> Number | Pending:
    return Pending(next_poll_in=timedelta(hours=1))


@stage(poll=ask)
def wait(ctx: StageContext[Number]) -> Suspend[Number]:
    return Suspend(ctx.input, poll_interval=timedelta(hours=1))


doubling = WorkflowBuilder("doubling", input=Number).pipe(double).build()
waiting = WorkflowBuilder("waiting", input=Number).pipe(wait).build()


class Probe:
    """A broker and workers that answer what the test says."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def depths(self, queues: Collection[str]) -> Mapping[str, int] | None:
        depths = self._answers.get("depths", {})
        return None if depths is None else {queue: depths.get(queue, 0) for queue in queues}

    def consumers(self) -> Mapping[str, Collection[str]] | None:
        return self._answers.get("consumers", {"worker@here": ["workflow", "workflow.control"]})

    def idle_slots(self) -> int | None:
        return self._answers.get("idle_slots", 4)

    def hazards(self) -> list[str]:
        return self._answers.get("hazards", [])


def diagnose(tester: WorkflowTester, limits: Limits | None = None, **answers: Any) -> Diagnosis:
    return examine(tester.engine, Probe(**answers), ["workflow", "workflow.control"], limits)


def find(diagnosis: Diagnosis, check: str) -> Finding:
    return next(finding for finding in diagnosis.findings if finding.check == check)


def execute(tester: WorkflowTester, statement: str) -> None:
    tester.database.transact(lambda tx: tx.exec_driver_sql(statement))


@pytest.fixture
def tester(start: Start) -> WorkflowTester:
    started = start(doubling, waiting)
    started.sweep(force=False)
    return started


def test_all_is_well_when_nothing_was_ever_run(tester: WorkflowTester) -> None:
    diagnosis = diagnose(tester)

    assert {finding.check: finding.health for finding in diagnosis.findings} == dict.fromkeys(
        [finding.check for finding in diagnosis.findings], Health.HEALTHY
    )
    assert diagnosis.health is Health.HEALTHY


def test_all_is_well_after_a_run(tester: WorkflowTester) -> None:
    run = tester.create_run(doubling, Number(n=1))
    tester.run_to_end(run)

    assert diagnose(tester).health is Health.HEALTHY


def test_looking_changes_nothing(tester: WorkflowTester) -> None:
    run = tester.create_run(doubling, Number(n=1))
    before = run.snapshot(), run.list_stages(), list(tester.messages.waiting)

    diagnose(tester)

    assert (run.snapshot(), run.list_stages(), list(tester.messages.waiting)) == before


def test_a_broker_that_does_not_answer_is_seen(tester: WorkflowTester) -> None:
    diagnosis = diagnose(tester, depths=None)

    finding = find(diagnosis, "broker")
    assert (finding.health, diagnosis.health) == (Health.DEGRADED, Health.DEGRADED)


def test_the_depth_of_the_queues_is_told(tester: WorkflowTester) -> None:
    finding = find(diagnose(tester, depths={"workflow": 1200}), "broker")

    assert finding == Finding("broker", Health.HEALTHY, "1,200 messages wait in 2 queues")


def test_a_queue_without_consumer_is_named(tester: WorkflowTester) -> None:
    finding = find(diagnose(tester, consumers={"worker@here": ["workflow"]}), "consumers")

    assert finding.health is Health.DEGRADED
    assert finding.details == ("workflow.control",)


def test_workers_that_cannot_be_asked_are_no_problem(tester: WorkflowTester) -> None:
    diagnosis = diagnose(tester, consumers=None)

    assert find(diagnosis, "consumers").health is Health.UNKNOWN
    assert diagnosis.health is Health.HEALTHY


def test_a_sweep_that_never_ran_is_seen(start: Start) -> None:
    finding = find(diagnose(start(doubling)), "sweep")

    assert finding.health is Health.DEGRADED
    assert "no sweep has run yet" in finding.message


@pytest.mark.parametrize(("age", "health"), [(14, Health.HEALTHY), (16, Health.DEGRADED)])
def test_a_sweep_is_late_after_three_intervals(tester: WorkflowTester, age: int, health: Health) -> None:
    tester.advance(timedelta(seconds=age))

    assert find(diagnose(tester), "sweep").health is health


def test_a_lease_that_ran_out_and_stayed_is_counted(tester: WorkflowTester) -> None:
    tester.create_run(doubling, Number(n=1))
    take_and_leave(tester)
    tester.advance(tester.settings.lease + PATIENCE - timedelta(seconds=1))
    before = find(diagnose(tester), "leases")

    tester.advance(timedelta(seconds=2))

    assert before.health is Health.HEALTHY
    assert find(diagnose(tester), "leases") == Finding(
        "leases", Health.DEGRADED, "1 leases ran out and were not taken back"
    )


def take_and_leave(tester: WorkflowTester) -> None:
    """Claim what the next message names, as a worker does that dies afterwards."""
    hint = tester.messages.waiting.pop(0)
    lease_ms = to_milliseconds(tester.settings.lease)
    request = ClaimRequest(hint.stage_run_id, hint.dispatch_number, "nonce", "host:1:abc", lease_ms)
    assert claim(tester.database, request) is not None


def test_the_backlog_is_told_list_by_list(tester: WorkflowTester) -> None:
    tester.create_run(doubling, Number(n=1))
    tester.create_run(doubling, Number(n=2))
    tester.create_run(doubling, Number(n=3), priority=9)

    finding = find(diagnose(tester), "backlog")

    assert finding.health is Health.HEALTHY
    assert finding.message.startswith("3 stage runs are due")
    assert [detail.partition(",")[0] for detail in finding.details] == [
        "workflow priority 5: 2 due",
        "workflow priority 9: 1 due",
    ]


def test_a_backlog_that_is_too_old_is_seen(tester: WorkflowTester) -> None:
    tester.create_run(doubling, Number(n=1))
    tester.advance(timedelta(minutes=1))
    patient = find(diagnose(tester, Limits(backlog_age=timedelta(minutes=2))), "backlog")

    impatient = find(diagnose(tester, Limits(backlog_age=timedelta(seconds=30))), "backlog")

    assert (patient.health, impatient.health) == (Health.HEALTHY, Health.DEGRADED)


def test_what_a_paused_run_would_do_is_no_backlog(tester: WorkflowTester) -> None:
    run = tester.create_run(doubling, Number(n=1))
    tester.pause(run.id)
    tester.advance(timedelta(hours=1))

    assert find(diagnose(tester), "backlog").message == "nothing is due"


def test_a_run_whose_message_still_waits_is_not_stuck(tester: WorkflowTester) -> None:
    tester.create_run(doubling, Number(n=1))
    tester.advance(timedelta(hours=1))

    assert find(diagnose(tester), "stuck runs").health is Health.HEALTHY


def test_a_run_whose_message_is_lost_and_not_sent_again_is_stuck(tester: WorkflowTester) -> None:
    run = tester.create_run(doubling, Number(n=1))
    tester.messages.waiting.clear()
    tester.advance(PATIENCE)
    before = find(diagnose(tester), "stuck runs")

    tester.advance(timedelta(seconds=11))

    assert before.health is Health.HEALTHY
    assert find(diagnose(tester), "stuck runs").details == (run.id,)


def test_a_stuck_run_is_well_again_after_a_sweep(tester: WorkflowTester) -> None:
    tester.create_run(doubling, Number(n=1))
    tester.messages.waiting.clear()
    tester.advance(PATIENCE * 2)
    assert find(diagnose(tester), "stuck runs").health is Health.DEGRADED

    tester.sweep()

    assert find(diagnose(tester), "stuck runs").health is Health.HEALTHY


def test_a_run_that_waits_for_its_next_poll_is_not_stuck(tester: WorkflowTester) -> None:
    tester.create_run(waiting, Number(n=1))
    tester.deliver()
    tester.advance(timedelta(minutes=59))

    assert find(diagnose(tester), "stuck runs").health is Health.HEALTHY


def test_a_run_whose_poll_is_due_and_never_sent_is_stuck(tester: WorkflowTester) -> None:
    run = tester.create_run(waiting, Number(n=1))
    tester.deliver()

    tester.advance(timedelta(hours=1) + PATIENCE + timedelta(seconds=1))

    assert find(diagnose(tester), "stuck runs").details == (run.id,)


def test_workers_that_listen_and_take_nothing_are_seen(tester: WorkflowTester) -> None:
    tester.create_run(doubling, Number(n=1))
    tester.advance(PATIENCE + timedelta(seconds=1))

    finding = find(diagnose(tester, depths={"workflow": 1}), "wedged workers")

    assert finding.health is Health.DEGRADED
    assert finding.details == ("workflow",)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({"depths": {"workflow": 0}}, id="no message waits"),
        pytest.param({"depths": {"workflow": 1}, "idle_slots": 0}, id="no worker is idle"),
        pytest.param({"depths": {"workflow": 1}, "idle_slots": None}, id="workers cannot be asked"),
        pytest.param({"depths": None}, id="the broker cannot be asked"),
    ],
)
def test_work_that_waits_for_another_reason_does_not_mean_wedged_workers(
    tester: WorkflowTester, answers: dict[str, Any]
) -> None:
    tester.create_run(doubling, Number(n=1))
    tester.advance(PATIENCE + timedelta(seconds=1))

    assert find(diagnose(tester, **answers), "wedged workers").health is Health.HEALTHY


def test_workers_that_took_something_lately_are_not_wedged(tester: WorkflowTester) -> None:
    tester.create_run(doubling, Number(n=1))
    tester.create_run(doubling, Number(n=2))
    tester.advance(PATIENCE + timedelta(seconds=1))
    tester.deliver()

    assert find(diagnose(tester, depths={"workflow": 1}), "wedged workers").health is Health.HEALTHY


def test_hazards_of_the_broker_are_told(tester: WorkflowTester) -> None:
    finding = find(diagnose(tester, hazards=["accept_content has pickle"]), "configuration")

    assert finding.health is Health.DEGRADED
    assert finding.message == "accept_content has pickle"


@pytest.mark.parametrize(("key", "health"), [("k" * 31, Health.DEGRADED), ("k" * 32, Health.HEALTHY)])
def test_a_short_signing_key_is_a_hazard(start: Start, key: str, health: Health) -> None:
    tester = start(doubling, signing_key=key)

    finding = find(diagnose(tester), "configuration")

    assert finding.health is health
    assert key not in finding.message


def test_broken_records_are_named(start: Start) -> None:
    tester = start(doubling)
    run = tester.create_run(doubling, Number(n=1))
    execute(tester, "UPDATE workflow_runs SET remaining = 2")

    finding = find(diagnose(tester), "records")

    execute(tester, "UPDATE workflow_runs SET remaining = 1")
    assert finding.health is Health.DEGRADED
    assert [run.id in detail for detail in finding.details] == [True]


@pytest.mark.parametrize(
    ("runs", "limits", "health"),
    [
        (2, Limits(), Health.HEALTHY),
        (3, Limits(), Health.UNKNOWN),
        (3, Limits(records=True), Health.HEALTHY),
        (1, Limits(records=False), Health.UNKNOWN),
    ],
)
def test_many_records_are_read_only_when_asked_for(
    tester: WorkflowTester, monkeypatch: pytest.MonkeyPatch, runs: int, limits: Limits, health: Health
) -> None:
    monkeypatch.setattr(doctor, "MOST_RUNS", 2)
    for number in range(runs):
        tester.create_run(doubling, Number(n=number))

    diagnosis = diagnose(tester, limits)

    assert find(diagnosis, "records").health is health
    assert diagnosis.health is Health.HEALTHY


def test_a_check_that_fails_does_not_hide_the_others(tester: WorkflowTester, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no answer")

    monkeypatch.setattr(doctor, "find_violations", fail)

    diagnosis = diagnose(tester, depths=None)

    assert find(diagnosis, "records") == Finding(
        "records", Health.UNKNOWN, "could not be checked: RuntimeError: no answer"
    )
    assert find(diagnosis, "broker").health is Health.DEGRADED


def test_without_schema_nothing_can_be_checked_and_nothing_is_migrated() -> None:
    database = Database("sqlite://")

    diagnosis = check_access(database)

    assert diagnosis.health is Health.UNKNOWN
    assert "workflow-engine db upgrade" in find(diagnosis, "schema").message
    assert check_access(database) == diagnosis
    database.close()
