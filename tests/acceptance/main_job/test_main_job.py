"""The main job on real processes: Celery workers, beat, Redis, PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
import sqlalchemy as sa

from document_analysis.documents import reference_collection
from document_analysis.workflow import document_analysis
from tests.effort import IS_NIGHTLY
from workflow_engine.facade.executor import WorkflowExecutor
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.upkeep.invariants import find_violations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Documents of the main job on each broker.
RUNS = {"redis": 200, "rabbit": 60} if IS_NIGHTLY else {"redis": 60, "rabbit": 30}
#: Unimportant runs that wait before the urgent ones come.
BACKLOG = 500 if IS_NIGHTLY else 150


@pytest.fixture(params=["redis"])
def broker_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A batch service of the test's own that answers soon."""
    service = {"service_directory": str(tmp_path / "service"), "latency": "PT0.2S", "poll_interval": "PT0.2S"}
    return {"readability": service}


def _document(number: int) -> dict[str, str]:
    documents = reference_collection().documents
    document = documents[number % len(documents)]
    return {"name": document.name, "text": f"{document.text}\n\nCopy {number} of this document.\n"}


def _count(fleet: Any, query: str) -> int:
    return int(fleet.runtime.database.read(lambda tx: tx.scalar(sa.text(query))))


def _ended(fleet: Any) -> int:
    return _count(fleet, "SELECT count(*) FROM workflow_runs WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED')")


@pytest.mark.long(40)
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("broker_url", "runs"), list(RUNS.items()), indirect=["broker_url"])
def test_two_workers_and_beat_complete_every_run_and_execute_each_stage_once(
    fleet: Any, config: dict[str, Any], runs: int
) -> None:
    fleet.start_beat()
    fleet.start_worker("--concurrency=2", "-n", "one@%h")
    fleet.start_worker("--concurrency=2", "-n", "two@%h")

    handles = [fleet.runtime.create_run(document_analysis, _document(number), config=config) for number in range(runs)]
    fleet.wait_until(lambda: _ended(fleet) == runs, f"{runs} runs have ended")

    assert {handle.status for handle in handles} == {RunStatus.COMPLETED}
    assert _count(fleet, "SELECT count(*) FROM workflow_attempts WHERE kind = 'EXECUTE'") == runs * 6
    assert find_violations(fleet.runtime.database, final=True) == {}
    assert fleet.stop() == [0, 0, 0]
    with ThreadPoolExecutor(8) as pool:
        alone = pool.map(
            lambda number: WorkflowExecutor(document_analysis).execute(_document(number), config), range(runs)
        )
        assert [handle.output() for handle in handles] == list(alone)


@pytest.mark.long(20)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("broker_url", RUNS, indirect=True)
def test_important_runs_overtake_a_backlog(fleet: Any, config: dict[str, Any]) -> None:
    for _ in range(BACKLOG):
        fleet.runtime.create_run(document_analysis, _document(0), config=config, priority=2)
    urgent = [fleet.runtime.create_run(document_analysis, _document(1), config=config, priority=9) for _ in range(10)]

    fleet.start_worker("--concurrency=1")
    fleet.wait_until(lambda: all(handle.status.is_terminal for handle in urgent), "the urgent runs have ended")

    # While the urgent runs waited for their batch jobs the worker was free for others; before that it was not.
    taken_first = _count(
        fleet,
        """SELECT count(*) FROM workflow_stages WHERE priority = 2 AND claimed_at < (
             SELECT max(claimed_at) FROM workflow_stages WHERE priority = 9 AND stage_id = 'summarize')""",
    )
    assert taken_first <= 2


@pytest.mark.timeout(400)
def test_an_idle_fleet_picks_a_run_up_without_any_tick(
    fleet: Any, config: dict[str, Any], record_property: Callable[[str, object], None]
) -> None:
    fleet.start_worker("--concurrency=2", sweep_in_workers="never")
    fleet.wait_until_ready()
    fleet.runtime.create_run(document_analysis, _document(0), config=config)  # opens the publisher's connection

    waits = []
    for number in range(5):
        handle = fleet.runtime.create_run(document_analysis, _document(number), config=config)
        fleet.wait_until(lambda handle=handle: handle.status is not RunStatus.PENDING, "the run has started")
        snapshot = handle.snapshot()
        waits.append((snapshot.started_at - snapshot.created_at).total_seconds())

    # No beat runs and no worker sweeps, so nothing but the message can have started them; the figure is for people.
    record_property("median_pickup_seconds", sorted(waits)[2])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("sweeper", ["beat", "worker"])
def test_a_run_whose_first_message_was_deleted_is_started_by_whoever_sweeps(
    fleet: Any, config: dict[str, Any], redis_url: str, sweeper: str
) -> None:
    handle = fleet.runtime.create_run(document_analysis, _document(0), config=config)
    broker = redis.Redis.from_url(redis_url)
    [messages] = broker.keys("workflow*5")
    assert broker.llen(messages) == 1
    broker.delete(messages)

    settings = {"sweep_interval": "1", "dispatch_slack": "1", "sweep_in_workers": "never"}
    if sweeper == "beat":
        fleet.start_beat(**settings)
    fleet.start_worker("--concurrency=1", *(["--with-sweeper"] if sweeper == "worker" else []), **settings)
    fleet.wait_until(lambda: handle.status.is_terminal, "the run has ended")

    assert handle.status is RunStatus.COMPLETED


@pytest.mark.timeout(400)
def test_celery_tools_show_the_tasks_by_telling_names(fleet: Any, config: dict[str, Any]) -> None:
    fleet.start_worker("--concurrency=1", "--task-events")
    fleet.wait_until_ready()
    fleet.start("events", "--dump")
    fleet.wait_until(lambda: "heartbeat" in fleet.logs(), "celery events receives")

    handle = fleet.runtime.create_run(document_analysis, _document(0), config=config)
    fleet.wait_until(lambda: f"({handle.id}/extract/" in fleet.logs(), "celery events shows the stage")
    tasks = fleet.celery("inspect", "registered")

    shown = next(line for line in fleet.logs().splitlines() if f"({handle.id}/extract/" in line)
    assert "workflow_engine.execute_stage" in shown
    assert f"stage extract of run {handle.id}" in shown
    assert "workflow_engine.execute_stage" in tasks
    assert "workflow_engine.sweep" in tasks
