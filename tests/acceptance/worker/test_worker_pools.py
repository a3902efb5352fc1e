"""What works on which of Celery's pools, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workflow_engine.engine import cancel_run

pytestmark = pytest.mark.long(8)

POOLS = ["prefork", "threads", "solo"]


@pytest.mark.parametrize("pool", POOLS)
def test_stages_of_every_kind_are_executed_once_and_the_worker_ends_in_good_order(
    world: Any, tmp_path: Path, pool: str
) -> None:
    worker = world.start_worker(f"--pool={pool}", "--with-sweeper")
    completing = [flow.id for flow in world.pipelines.completing]
    overrunning = [flow.id for flow in world.pipelines.overrunning]
    journals = {flow: tmp_path / flow for flow in (*overrunning, *completing)}
    runs = {
        (flow, number): world.create_run(flow, journal=str(journal))
        for flow, journal in journals.items()
        for number in range(2)
    }

    world.wait_until(lambda: {world.status(run) for run in runs.values()} <= {"COMPLETED", "FAILED"})

    assert {flow for (flow, _), run in runs.items() if world.status(run) == "COMPLETED"} == set(completing)
    assert {flow: len(journal.read_text().split()) for flow, journal in journals.items()} == dict.fromkeys(journals, 2)
    assert world.read("SELECT DISTINCT error_code FROM workflow_runs WHERE status = 'FAILED'") == [("TIMEOUT",)]
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_cancel_by_force_leaves_the_worker_fit_for_other_runs(
    world: Any, gate: Any, tmp_path: Path, pool: str
) -> None:
    worker = world.start_worker(f"--pool={pool}")
    held = world.create_run("holding", **gate.order)
    world.wait_until(lambda: len(gate.pids) == 1)

    cancel_run(world.engine, held, terminate=True)
    if pool == "threads":
        world.wait_for_log(worker, "Terminating")
    if pool != "prefork":
        gate.open()
    following = world.create_run("note", journal=str(tmp_path / "note"))
    world.wait_for(following)

    assert world.status(held) == "CANCELLED"
    assert "Traceback" not in worker.log
    assert worker.stop() == 0


def test_a_worker_of_greenlets_leaves_the_stages_to_other_workers_and_says_so_in_one_line(
    world: Any, tmp_path: Path
) -> None:
    greenlets = world.start_worker("--pool=gevent", "--hostname=greenlets@%h", app="shop")
    world.wait_for_log(greenlets, "[tasks]")
    run = world.create_run("note", journal=str(tmp_path / "note"))
    untouched = world.status(run)

    world.start_worker("--pool=threads", "-Q", "workflow,workflow.control", app="shop")
    world.wait_for(run)

    assert untouched == "PENDING"
    assert "exchange=orders" in greenlets.log
    assert "exchange=workflow" not in greenlets.log
    [line] = [line for line in greenlets.log.splitlines() if "ERROR" in line]
    assert "cannot be executed by the gevent pool" in line
    assert "--pool=threads" in line


@pytest.mark.parametrize("arguments", [["-Q", "workflow"], ["-Q", "orders", "--with-sweeper"]])
def test_a_worker_of_greenlets_that_is_asked_for_stages_alone_or_for_sweeps_is_refused_in_one_sentence(
    world: Any, arguments: list[str]
) -> None:
    worker = world.start_worker("--pool=gevent", *arguments, app="shop")

    assert worker.process.wait(120) == 1
    assert "Traceback" not in worker.log
    [line] = [line for line in worker.log.splitlines() if line.startswith("Error: ")]
    assert "--pool=threads" in line


def test_a_worker_of_greenlets_with_queues_of_its_own_hears_nothing_of_stages(world: Any) -> None:
    worker = world.start_worker("--pool=gevent", "-Q", "orders", app="shop")
    world.wait_for_log(worker, "[tasks]")
    world.wait_for_log(worker, "Connected to ")

    assert [line for line in worker.log.splitlines() if "ERROR" in line or "workflow stages" in line] == []
