"""Sending messages again: for what is due and lost them, and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.transitions.unit_of_work import with_run
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.upkeep.due import dispatch_due, waiting_lists

if TYPE_CHECKING:
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.upkeep.due import WaitingList

#: Batches of one list that one sweep sends at most; the next sweep goes on.
_MOST_BATCHES = 200


def redispatch_due(engine: Engine) -> int:
    """Send a message for every due stage run that has none; return how many were sent.

    Nothing is sent while the broker cannot be asked: the messages would be lost as well.
    """
    present, lists = engine.database.read(waiting_lists)
    if not lists:
        return 0
    empty = engine.dispatcher.empty_lists([(item.queue, item.priority) for item in lists])
    if empty is None:
        return 0
    # An empty list has delivered everything that was sent before the time that was read before it was asked.
    return sum(
        _redispatch_list(
            engine, replace(item, delivered_until=present) if (item.queue, item.priority) in empty else item
        )
        for item in lists
    )


def _redispatch_list(engine: Engine, waiting: WaitingList) -> int:
    limit = engine.settings.sweep_batch
    slack_ms = to_milliseconds(engine.settings.dispatch_slack)
    sent = 0
    for _ in range(_MOST_BATCHES):
        hints = engine.database.transact(lambda tx: dispatch_due(tx, waiting, slack_ms=slack_ms, limit=limit))
        engine.dispatcher.dispatch(hints)
        sent += len(hints)
        if len(hints) < limit:
            break
    return sent


def redispatch_run(engine: Engine, run_id: str) -> RunStatus:
    """Send again what is due of one run, whether or not its messages were lost; return the run's status.

    Raises:
        RunNotFoundError: There is no such run.
    """

    def act(run: LockedRun) -> RunStatus:
        redispatch(run)
        return run.status

    return with_run(engine, run_id, act)


def redispatch(run: LockedRun) -> None:
    """Give every due stage run of a locked run that admits claims a new message."""
    if run.admits:
        dispatch_what_is_due(run)


def dispatch_what_is_due(run: LockedRun) -> None:
    """Give every due stage run of a locked run a new message."""
    for stage in run.active_stage_runs():
        if stage.is_due:
            dispatch = run.dispatch_poll if stage.status is StageStatus.SUSPENDED else run.dispatch
            dispatch(stage)
