"""A sweep does the rest of its work when the clock was put back, or when one run is in its way."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine import engine as commands
from workflow_engine.engine.upkeep import reap as reaping
from workflow_engine.errors import DatabaseUnavailableError
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.moves.leases import expired_leases
from workflow_engine.store.records import ClaimRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


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
