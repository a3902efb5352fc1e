"""One unit of work on one run: lock it, act, commit, then tell whoever should know.

Everything that moves a run goes through here, except the two one-statement forms of claim and complete.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from workflow_engine.errors import RunNotFoundError
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.connection.error_texts import loggable
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.reads.runs import database_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import Transaction
    from workflow_engine.store.records import Hint, StageRow

logger = logging.getLogger("workflow_engine.engine")
T = TypeVar("T")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Done(Generic[T]):
    value: T
    hints: Sequence[Hint]
    later: Sequence[tuple[Hint, int]]
    #: The stage run to wake because its child ended in this unit.
    waiting_parent: str | None


def with_run(engine: Engine, run_id: str, act: Callable[[LockedRun], T]) -> T:
    """Call ``act`` with the locked run in one transaction; what it did is durable when this returns.

    ``act`` may be called again after an error that left the outcome unknown.

    Raises:
        RunNotFoundError: There is no such run.
    """

    def work(tx: Transaction) -> _Done[T]:
        run = LockedRun.find(tx, run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return _perform(run, act)

    return _after_commit(engine, engine.database.transact(work))


def with_stage_run(engine: Engine, stage_run_id: str, act: Callable[[LockedRun, StageRow], T]) -> T | None:
    """Call ``act`` with a stage run and its locked run, like ``with_run``; None when there is no such stage run."""

    def work(tx: Transaction) -> _Done[T] | None:
        run = LockedRun.of_stage_run(tx, stage_run_id)
        stage = run.stage_run(stage_run_id) if run else None
        if run is None or stage is None:
            return None
        return _perform(run, lambda locked: act(locked, stage))

    done = engine.database.transact(work)
    return None if done is None else _after_commit(engine, done)


def _perform(run: LockedRun, act: Callable[[LockedRun], T]) -> _Done[T]:
    was_live = run.is_live
    value = act(run)
    run.save()
    ended = was_live and not run.is_live
    return _Done(value, run.hints, run.later, run.row["parent_stage_run_id"] if ended else None)


def _after_commit(engine: Engine, done: _Done[T]) -> T:
    engine.dispatcher.dispatch(done.hints)
    for hint, delay_ms in done.later:
        engine.dispatcher.dispatch_later(hint, timedelta(milliseconds=delay_ms))
    if done.waiting_parent is not None:
        wake_parent(engine, done.waiting_parent)
    return done.value


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
        run.change_stage(stage, next_poll_at=run.now)
        run.dispatch_poll(stage)
    else:
        run.change_stage(stage, wake_sequence=stage.wake_sequence + 1)
    return True


def wake_parent(engine: Engine, stage_run_id: str | None) -> None:
    """Tell the stage run that waits for a run that ended; if that fails, its own poll finds out."""
    if stage_run_id is None:
        return
    try:
        with_stage_run(engine, stage_run_id, wake)
    except Exception as error:
        logger.exception("could not wake stage run %s; its poll will find out", stage_run_id, exc_info=loggable(error))
