from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long(8)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_runs_a_workflow_to_its_end_with_poll_and_all(world: Any, pool: str) -> None:
    run_id = world.create_run("arithmetic", number=3)

    world.start_worker(f"--pool={pool}")

    world.wait_for(run_id)
    assert world.read("SELECT count(*) FROM workflow_stages WHERE status = 'COMPLETED'") == [(2,)]


def test_plain_celery_worker_and_beat_find_the_workflows_by_the_environment(world: Any, tmp_path: Path) -> None:
    worker = world.start_worker(app=None, sweep_in_workers="never")
    beat = world.start_celery("beat", "--loglevel=INFO", f"--schedule={tmp_path / 'schedule'}", app=None)
    world.wait_for_log(worker, "workflow_engine.sweep")
    run_id = world.create_run("arithmetic", number=1)

    world.wait_for(run_id)

    assert "Sending due task workflow_engine.sweep" in beat.log
    assert beat.stop() == 0


def test_a_stage_that_asks_for_its_own_queue_is_run_by_a_worker_without_q(world: Any) -> None:
    world.start_worker()

    run_id = world.create_run("printing", number=1)

    world.wait_for(run_id)


def test_a_worker_with_q_consumes_only_what_it_was_told(world: Any) -> None:
    worker = world.start_worker("--queues=printer", sweep_in_workers="never")
    world.wait_for_log(worker, "ready.")

    other, mine = world.create_run("arithmetic", number=1), world.create_run("printing", number=1)

    world.wait_for(mine)
    assert world.status(other) == "PENDING"
    assert world.dispatcher.depths(["workflow"]) == {"workflow": 1}


def test_a_stage_that_exhausts_memory_fails_and_its_worker_lives(world: Any) -> None:
    worker = world.start_worker("--pool=prefork")
    bad = world.create_run("exhausting")

    world.wait_for(bad, "FAILED")
    world.wait_for_log(worker, "failed: MemoryError")
    world.wait_for_log(worker, "succeeded in")
    assert "Traceback (most recent call last)" in worker.log
    assert "in exhaust_memory" in worker.log

    good = world.create_run("arithmetic", number=1)
    world.wait_for(good)
    assert worker.is_running()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_child_that_is_ended_loses_its_stage_to_another_long_before_the_lease_ends(
    world: Any, gate: Any, number: signal.Signals
) -> None:
    worker = world.start_worker("--pool=prefork", sweep_in_workers="never")
    run_id = world.create_run("holding", **gate.order)
    world.wait_until(lambda: len(gate.pids) == 1)

    os.kill(gate.pids[0], number)

    world.wait_until(lambda: len(gate.pids) == 2)  # the lease is a minute, and nobody sweeps
    gate.open()
    world.wait_for(run_id)
    assert world.read("SELECT attempt, crashes FROM workflow_stages") == [(2, 1)]
    assert worker.is_running()
