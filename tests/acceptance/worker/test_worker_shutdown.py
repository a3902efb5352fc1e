from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.long(8)

ATTEMPTS = "SELECT status, attempt, crashes FROM workflow_stages"


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_stages_that_outlast_the_grace_are_given_back_without_burning_an_attempt(
    world: Any, gate: Any, pool: str
) -> None:
    first = world.start_worker(f"--pool={pool}", sweep_in_workers="never", shutdown_grace="PT2S")
    run_id = world.create_run("holding", **gate.order)
    world.wait_until(lambda: len(gate.pids) == 1)

    code = first.stop()

    assert code == 0
    assert world.read(ATTEMPTS) == [("PENDING", 0, 0)]
    world.start_worker(f"--pool={pool}", sweep_in_workers="never")
    world.wait_until(lambda: len(gate.pids) == 2)
    gate.open()
    world.wait_for(run_id)
    assert world.read(ATTEMPTS) == [("COMPLETED", 1, 0)]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_stages_that_end_within_the_grace_complete_before_the_worker_is_gone(world: Any, gate: Any, pool: str) -> None:
    worker = world.start_worker(f"--pool={pool}", shutdown_grace="PT40S")
    run_id = world.create_run("holding", **gate.order)
    world.wait_until(lambda: len(gate.pids) == 1)
    worker.process.terminate()
    world.wait_for_log(worker, "Warm shutdown")

    gate.open()

    assert worker.process.wait(30) == 0
    assert world.status(run_id) == "COMPLETED"
    assert world.read(ATTEMPTS) == [("COMPLETED", 1, 0)]


def test_an_idle_worker_ends_at_once(world: Any) -> None:
    worker = world.start_worker("--pool=prefork")
    world.wait_for_log(worker, "ready.")

    assert worker.stop() == 0
