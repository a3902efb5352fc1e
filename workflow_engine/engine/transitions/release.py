"""Giving a claim back without burning an attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.transitions.group_progress import fail_stage_run, is_draining, settle
from workflow_engine.engine.transitions.unit_of_work import for_each, with_stage_run
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.moves import stage_moves
from workflow_engine.store.moves.attempts import close_attempt, first_release
from workflow_engine.store.moves.leases import leases_of
from workflow_engine.store.records import NOTHING_REPORTED, AttemptOutcome

if TYPE_CHECKING:
    from workflow_engine.engine.decisions.outcomes import Mismatched
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Lease, Report, StageFailure, StageRow

_SHORTEST_MISMATCH_DELAY_MS = 200
_LONGEST_MISMATCH_DELAY_MS = 5 * 60 * 1000


def release_worker(engine: Engine, worker_id_prefix: str) -> int:
    """Give back every claim of the workers whose id starts so; for a shutdown that cannot wait for the bodies.

    A body that goes on is fenced off. Returns how many claims were given back.
    """
    leases = engine.database.read(lambda tx: leases_of(tx, worker_id_prefix))
    return for_each(engine, leases, lambda lease: release(engine, lease))


def release(engine: Engine, lease: Lease) -> bool:
    """Give back what is held under the lease, for whoever may take it at once; False: it is not held any more."""

    def act(run: LockedRun, stage: StageRow) -> bool:
        if stage.fence != lease.fence or stage.lease_id is None:
            return False
        release_stage_run(engine, run, stage)
        return True

    return bool(with_stage_run(engine, lease.stage_run_id, act))


def release_stage_run(engine: Engine, run: LockedRun, stage: StageRow, report: Report = NOTHING_REPORTED) -> None:
    """Give a leased stage run of a locked run back, to be taken by anybody at once."""
    if is_draining(run):
        _end(engine, run, stage, report)
    else:
        _give_back(run, stage, report)


def release_mismatched(engine: Engine, run: LockedRun, stage: StageRow, outcome: Mismatched, report: Report) -> None:
    """Give back what this worker has no definition for; fail it when that has gone on for too long."""
    since = stage.mismatch_since or run.now
    # Workers of another app may have given it back for hours: that says nothing about the stages of its own app.
    own_since = first_release(run.tx, stage.id, outcome.failure.type, since) or run.now
    if run.now - own_since > to_milliseconds(outcome.grace):
        fail_stage_run(run, stage, outcome.failure, engine.settings, by=report)
    elif is_draining(run):
        _end(engine, run, stage, report, outcome.failure)
    else:
        delay_ms = mismatch_delay_ms(run.now - since)
        _give_back(run, replace(stage, mismatch_since=since), report, outcome.failure, delay_ms=delay_ms)


def _end(engine: Engine, run: LockedRun, stage: StageRow, report: Report, reason: StageFailure | None = None) -> None:
    """Cancel instead of giving back: it would only wait, in a group that has failed."""
    close_attempt(run, stage, AttemptOutcome.RELEASED, reason, report)
    if stage.status is StageStatus.RUNNING:
        stage = replace(stage, attempt=stage.attempt - 1)
    stage_moves.cancel(run, stage, report=report)
    settle(run, engine.settings)


def _give_back(
    run: LockedRun, stage: StageRow, report: Report, reason: StageFailure | None = None, *, delay_ms: int = 0
) -> None:
    is_poll = stage.status is StageStatus.SUSPENDED
    release_it = stage_moves.release_poll if is_poll else stage_moves.release
    release_it(run, stage, delay_ms, report, reason)


def mismatch_delay_ms(elapsed_ms: int) -> int:
    """Return how long the next worker waits for a look at what workers have been giving back for ``elapsed_ms``.

    A tenth of that time: whoever can execute it, and comes back, takes it soon after an absence of any length, and an
    absence of a day costs a few hundred messages.
    """
    return min(max(elapsed_ms // 10, _SHORTEST_MISMATCH_DELAY_MS), _LONGEST_MISMATCH_DELAY_MS)
