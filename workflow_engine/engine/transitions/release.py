"""Giving a claim back without burning an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.transitions.group_progress import cancel_stage_run, fail_stage_run, is_draining, settle
from workflow_engine.engine.transitions.unit_of_work import for_each, with_stage_run
from workflow_engine.events import EventType
from workflow_engine.lifecycle import StageMove, StageStatus
from workflow_engine.store.moves.attempts import first_release
from workflow_engine.store.moves.leases import leases_of
from workflow_engine.store.records import AttemptOutcome

if TYPE_CHECKING:
    from workflow_engine.engine.decisions.outcomes import Mismatched
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import Lease, StageRow

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


def release_stage_run(engine: Engine, run: LockedRun, stage: StageRow, **columns: Any) -> None:
    """Give a leased stage run of a locked run back, to be taken by anybody at once."""
    if not _end_if_draining(engine, run, stage):
        give_back(run, stage, delay_ms=0, **columns)


def _end_if_draining(engine: Engine, run: LockedRun, stage: StageRow) -> bool:
    """Cancel instead of giving back what would only wait in a group that has failed."""
    if not is_draining(run):
        return False
    run.close_attempt(stage.id, stage.fence, AttemptOutcome.RELEASED)
    if stage.status is StageStatus.RUNNING:
        run.change_stage(stage, attempt=stage.attempt - 1)
    cancel_stage_run(run, stage)
    settle(run, engine.settings)
    return True


def give_back(run: LockedRun, stage: StageRow, *, delay_ms: int, **columns: Any) -> None:
    """Return a leased stage run to those that wait, and send its message; the attempt does not count."""
    run.close_attempt(stage.id, stage.fence, AttemptOutcome.RELEASED)
    if stage.status is StageStatus.SUSPENDED:
        run.move_stage(StageMove.NOT_READY, stage, new_fence=True, next_poll_at=run.now + delay_ms, **columns)
        run.dispatch_poll(stage, delay_ms)
        return
    run.move_stage(
        StageMove.RELEASE, stage, new_fence=True, attempt=stage.attempt - 1, available_at=run.now + delay_ms, **columns
    )
    run.record(EventType.STAGE_RELEASED, stage.stage_id, attempt=stage.attempt)
    if delay_ms == 0:
        run.dispatch(stage)
    else:
        run.dispatch_later(stage, delay_ms)


def release_mismatched(engine: Engine, run: LockedRun, stage: StageRow, outcome: Mismatched) -> None:
    """Give back what this worker has no definition for; fail it when that has gone on for too long."""
    since = stage.mismatch_since or run.now
    # Workers of another app may have given it back for hours: that says nothing about the stages of its own app.
    own_since = first_release(run.tx, stage.id, outcome.failure.type, since) or run.now
    if run.now - own_since > to_milliseconds(outcome.grace):
        run.close_attempt(stage.id, stage.fence, AttemptOutcome.FAILED, outcome.failure)
        fail_stage_run(run, stage, outcome.failure, engine.settings)
        return
    run.close_attempt(stage.id, stage.fence, AttemptOutcome.RELEASED, outcome.failure)
    if _end_if_draining(engine, run, stage):
        return
    delay_ms = mismatch_delay_ms(run.now - since)
    give_back(run, stage, delay_ms=delay_ms, mismatch_since=since)


def mismatch_delay_ms(elapsed_ms: int) -> int:
    """Return how long the next worker waits for a look at what workers have been giving back for ``elapsed_ms``.

    A tenth of that time: whoever can execute it, and comes back, takes it soon after an absence of any length, and an
    absence of a day costs a few hundred messages.
    """
    return min(max(elapsed_ms // 10, _SHORTEST_MISMATCH_DELAY_MS), _LONGEST_MISMATCH_DELAY_MS)
