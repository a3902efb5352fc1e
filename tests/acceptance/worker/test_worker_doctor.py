"""The doctor asks real workers over a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from workflow_engine.engine.upkeep.doctor import Diagnosis, Finding, Health, examine
from workflow_engine.worker.broker_probe import CeleryProbe


@pytest.fixture
def probe(world: Any) -> Iterator[CeleryProbe]:
    made = CeleryProbe(world.app, timedelta(seconds=2))
    yield made
    made.close()


def find(diagnosis: Diagnosis, check: str) -> Finding:
    return next(finding for finding in diagnosis.findings if finding.check == check)


def test_a_worker_that_is_up_is_seen_with_its_queues_and_idle_slots(world: Any, probe: CeleryProbe) -> None:
    worker = world.start_worker("--pool=prefork", "--hostname=one@here", sweep_in_workers="always")
    world.wait_for(world.create_run("arithmetic", number=1))
    world.wait_for_log(worker, " ready.")

    diagnosis = examine(world.engine, probe, ["workflow", "workflow.control"])

    assert find(diagnosis, "consumers") == Finding("consumers", Health.HEALTHY, "1 workers consume 2 queues")
    assert probe.idle_slots() == 2
    assert diagnosis.health is Health.HEALTHY


def test_a_slot_that_executes_a_stage_is_not_idle(world: Any, probe: CeleryProbe, gate: Any) -> None:
    world.start_worker("--pool=prefork")
    run_id = world.create_run("holding", **gate.order)
    world.wait_until(lambda: gate.pids)

    idle = probe.idle_slots()

    gate.open()
    world.wait_for(run_id)
    assert idle == 1


def test_without_worker_the_queues_have_no_consumer(world: Any, probe: CeleryProbe) -> None:
    world.create_run("arithmetic", number=1)

    diagnosis = examine(world.engine, probe, ["workflow"])

    assert find(diagnosis, "consumers").details == ("workflow",)
    assert find(diagnosis, "broker").message == "1 messages wait in 1 queues"
    assert diagnosis.health is Health.DEGRADED
