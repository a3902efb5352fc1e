"""Retention: delete runs that ended long ago."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.process.database_patience import ABSENCES
from workflow_engine.errors import InvalidRequestError
from workflow_engine.lifecycle import TERMINAL_RUN
from workflow_engine.store.reads.runs import database_now, list_run_states
from workflow_engine.store.upkeep.retention import count_prunable, prune_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import timedelta

    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.lifecycle import RunStatus
    from workflow_engine.store.moves.locked_run import Transaction

#: Runs deleted in one transaction: their stage runs, logs and events go with them.
_BATCH = 100
_BATCHES_OF_A_SWEEP = 5


def prune(
    engine: Engine,
    *,
    older_than: timedelta,
    statuses: Collection[RunStatus] = TERMINAL_RUN,
    dry_run: bool = False,
    most_batches: int | None = None,
) -> int:
    """Delete the runs of these statuses that ended more than ``older_than`` ago; return how many.

    Works in batches of one transaction each, so it may be interrupted, and run by several at once. ``dry_run`` only
    counts; ``most_batches`` of a hundred runs of each status bound one call. Stage runs, outputs, logs, events,
    artifacts and annotations go with their run.

    Raises:
        InvalidRequestError: A status is not terminal; live runs are never deleted.
    """
    live = [status.value for status in statuses if status not in TERMINAL_RUN]
    if live:
        raise InvalidRequestError(f"Only ended runs can be pruned, not {', '.join(live)}")
    ended_before = engine.database.read(database_now) - to_milliseconds(older_than)
    if dry_run:
        return engine.database.read(lambda tx: count_prunable(tx, statuses, ended_before))
    return sum(_prune_status(engine, status, ended_before, most_batches) for status in statuses)


def _prune_status(engine: Engine, status: RunStatus, ended_before: int, most_batches: int | None) -> int:
    deleted, size = 0, _BATCH
    batches = itertools.count() if most_batches is None else range(most_batches)
    for _ in batches:
        try:
            batch = engine.database.transact(_batch_of(status, ended_before, size))
        except ABSENCES:
            if size == 1:
                raise
            size //= 10  # runs with millions of log lines cannot all go within the time limits of statements and locks
            continue
        deleted += batch
        if batch < size:
            break
    return deleted


def _batch_of(status: RunStatus, ended_before: int, size: int) -> Callable[[Transaction], int]:
    """Return the deletion of one batch, which counts also what a try deleted whose answer was lost."""
    tried: set[str] = set()

    def work(tx: Transaction) -> int:
        before = tried - list_run_states(tx, sorted(tried)).keys()
        batch = prune_batch(tx, status, ended_before, size - len(before)) if len(before) < size else []
        tried.update(batch)
        return len(before.union(batch))

    return work


def prune_some(engine: Engine) -> int:
    """Delete a few of the runs that the settings' ``retention`` has given up; the sweep's step."""
    settings = engine.settings
    if settings.retention is None:
        return 0
    return prune(
        engine, older_than=settings.retention, statuses=settings.retention_statuses, most_batches=_BATCHES_OF_A_SWEEP
    )
