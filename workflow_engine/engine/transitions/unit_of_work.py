"""One unit of work on one run: lock it, act, commit, then tell whoever should know.

Everything that moves a run goes through here, except the two one-statement forms of claim and complete.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from workflow_engine.errors import RunNotFoundError
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.connection.error_texts import loggable
from workflow_engine.store.moves import changes
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.reads.runs import database_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import Transaction
    from workflow_engine.store.records import StageRow

logger = logging.getLogger("workflow_engine.engine")
T = TypeVar("T")
Item = TypeVar("Item")


def with_run(engine: Engine, run_id: str, act: Callable[[LockedRun], T]) -> T:
    """Call ``act`` with the locked run in one transaction; what it did is durable when this returns.

    ``act`` may be called again after an error that left the outcome unknown.

    Raises:
        RunNotFoundError: There is no such run.
    """

    def work(tx: Transaction) -> tuple[T, LockedRun]:
        run = LockedRun.find(tx, run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        value = act(run)
        run.save()
        return value, run

    value, run = engine.database.transact(work)
    after_commit(engine, run)
    return value


def with_stage_run(engine: Engine, stage_run_id: str, act: Callable[[LockedRun, StageRow], T]) -> T | None:
    """Call ``act`` with a stage run and its locked run, like ``with_run``; None when there is no such stage run."""

    def work(tx: Transaction) -> tuple[T, LockedRun] | None:
        run = LockedRun.of_stage_run(tx, stage_run_id)
        stage = run.stage_run(stage_run_id) if run else None
        if run is None or stage is None:
            return None
        value = act(run, stage)
        run.save()
        return value, run

    done = engine.database.transact(work)
    if done is None:
        return None
    after_commit(engine, done[1])
    return done[0]


def after_commit(engine: Engine, run: LockedRun) -> None:
    """Send the messages of a transaction that is committed, and wake the stage run that waits for a run which ended."""
    engine.dispatcher.dispatch(run.hints)
    for hint, delay_ms in run.later:
        engine.dispatcher.dispatch_later(hint, timedelta(milliseconds=delay_ms))
    if run.has_just_ended:
        wake_parent(engine, run.row.parent_stage_run_id)


def for_each(engine: Engine, items: Iterable[Item], act: Callable[[Item], object]) -> int:
    """Call ``act`` with every item and return how often it did something; one that fails holds up no other.

    Raises:
        Exception: The first failure, once all had their turn, or at once where the database does not answer.
    """
    done, failures = 0, list[Exception]()
    for item in items:
        try:
            done += bool(act(item))
        except Exception as error:
            logger.exception("%s failed", item, exc_info=loggable(error))
            failures.append(error)
            engine.database.read(database_now)
    if failures:
        raise failures[0]
    return done


def wake(run: LockedRun, stage: StageRow) -> bool:
    """Make the poll of a suspended stage run due now; remember the wake-up while a body or poll is under way."""
    if stage.status.is_terminal or not stage.is_live:
        return False
    if stage.status is StageStatus.SUSPENDED and stage.lease_id is None:
        changes.poll_now(run, stage)
    else:
        changes.note_wake_up(run, stage)
    return True


def wake_parent(engine: Engine, stage_run_id: str | None) -> None:
    """Tell the stage run that waits for a run that ended; if that fails, its own poll finds out."""
    if stage_run_id is None:
        return
    try:
        with_stage_run(engine, stage_run_id, wake)
    except Exception as error:
        logger.exception("could not wake stage run %s; its poll will find out", stage_run_id, exc_info=loggable(error))
