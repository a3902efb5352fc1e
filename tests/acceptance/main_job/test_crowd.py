"""Hundreds of stages that wait (at night two thousand), and are due at the same moment."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.effort import IS_NIGHTLY
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.upkeep.invariants import find_violations

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).parent
#: With four members each: more stages than a sweep takes at a time.
RUNS = 500 if IS_NIGHTLY else 150


@pytest.fixture
def crowd() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crowd", HERE / "crowd.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["crowd"] = module  # annotations of its models are resolved there
    spec.loader.exec_module(module)
    return module


def _count(fleet: Any, query: str) -> int:
    return int(fleet.runtime.database.read(lambda tx: tx.scalar(sa.text(query))))


def _make_all_polls_due(fleet: Any) -> None:
    due = sa.text("UPDATE workflow_stages SET next_poll_at = workflow_now() WHERE status = 'SUSPENDED'")
    fleet.runtime.database.transact(lambda tx: tx.execute(due))


@pytest.mark.long(50)
@pytest.mark.timeout(900)
def test_a_crowd_of_polls_due_at_once_are_made_once_each_and_none_waits_for_one_that_hangs(
    fleet_of: Any, crowd: ModuleType
) -> None:
    fleet = fleet_of(crowd.crowd, "crowd:crowd", HERE)
    hanging = fleet.runtime.create_run(crowd.crowd, {"number": 0, "hangs": True})
    handles = [fleet.runtime.create_run(crowd.crowd, {"number": number}) for number in range(1, RUNS)]
    settings = {"sweep_interval": "1", "sweep_in_workers": "never"}
    fleet.start_worker("--concurrency=4", "-n", "one@%h", **settings)
    fleet.start_worker("--concurrency=4", "-n", "two@%h", **settings)
    waiting = "SELECT count(*) FROM workflow_stages WHERE status = 'SUSPENDED'"
    fleet.wait_until(lambda: _count(fleet, waiting) == RUNS * crowd.MEMBERS, "all stages are suspended")

    _make_all_polls_due(fleet)
    fleet.start_beat(**settings)
    fleet.start_beat(**settings)
    ended = "SELECT count(*) FROM workflow_runs WHERE status = 'COMPLETED'"
    fleet.wait_until(lambda: _count(fleet, ended) == RUNS - 1, "the others are complete")
    hanging_polls = "SELECT count(*) FROM workflow_attempts WHERE kind = 'POLL' AND outcome IS NULL"
    assert _count(fleet, hanging_polls) <= crowd.MEMBERS
    assert hanging.status is not RunStatus.COMPLETED
    fleet.wait_until(lambda: hanging.status.is_terminal or _poll_again(fleet), "the one that hung is complete")

    polled_once = "SELECT count(*) FROM workflow_stages WHERE stage_id LIKE 'wait%' AND polls = 1"
    assert _count(fleet, polled_once) == (RUNS - 1) * crowd.MEMBERS
    assert [handle.output() for handle in handles] == [number * crowd.MEMBERS for number in range(1, RUNS)]
    assert hanging.status is RunStatus.COMPLETED
    assert find_violations(fleet.runtime.database, final=True) == {}


@pytest.mark.timeout(400)
def test_cancel_by_force_frees_the_slot_of_a_body_that_never_ends(fleet_of: Any, crowd: ModuleType) -> None:
    fleet = fleet_of(crowd.blocking, "crowd:blocking", HERE)
    fleet.start_worker("--concurrency=1")
    stuck = fleet.runtime.create_run(crowd.blocking, {"number": 1, "hangs": True})
    fleet.wait_until(lambda: stuck.status is RunStatus.RUNNING, "the body hangs")

    fleet.runtime.cancel(stuck.id, terminate=True)
    following = fleet.runtime.create_run(crowd.blocking, {"number": 2})
    fleet.wait_until(lambda: following.status.is_terminal, "the slot is free again")

    assert following.output() == 2
    assert stuck.status is RunStatus.CANCELLED
    assert find_violations(fleet.runtime.database, final=True) == {}


def _poll_again(fleet: Any) -> bool:
    _make_all_polls_due(fleet)
    return False
