"""The sweep: find and repair what no message will. Beat triggers it; any number may run at once, at any time.

Every step is a set of transactions that check again what was read, so a step that fails, or runs twice, harms nothing;
and one that fails stops no other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.commands.cancel_run import cancel_orphans
from workflow_engine.engine.commands.redispatch import redispatch_due
from workflow_engine.engine.upkeep.expire import expire_queued, expire_runs, expire_suspensions
from workflow_engine.engine.upkeep.prune import prune_some
from workflow_engine.engine.upkeep.reap import reap_expired
from workflow_engine.store.connection.error_texts import loggable, summarize_any
from workflow_engine.store.reads.runs import database_now
from workflow_engine.store.upkeep.cleanups import dispatch_cleanups
from workflow_engine.store.upkeep.overdue import begin_tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.engine.process.engine import Engine

logger = logging.getLogger("workflow_engine.sweep")

TICK = "sweep"


@dataclass(slots=True)
class SweepReport:
    """What a sweep did."""

    #: True when another sweep ran a moment ago and this one left it at that.
    skipped: bool = False
    #: How many things each step repaired; steps that found nothing are absent.
    repaired: dict[str, int] = field(default_factory=dict)
    #: Why a step failed.
    errors: dict[str, str] = field(default_factory=dict)


def sweep(engine: Engine, *, force: bool = False) -> SweepReport:
    """Run every step of the sweep once, unless another sweep did within the last half interval.

    ``force`` runs it whatever others did, and without the grace that live workers get after an absence.

    Raises:
        DatabaseUnavailableError: The database does not answer.
    """
    report = SweepReport()
    reap_after = 0
    if not force:
        settings = engine.settings
        taken = engine.database.transact(
            lambda tx: begin_tick(
                tx,
                TICK,
                interval_ms=to_milliseconds(settings.sweep_interval),
                lease_ms=to_milliseconds(settings.lease),
            )
        )
        if taken is None:
            report.skipped = True
            return report
        reap_after = taken
    for name, step in _steps(engine, reap_after).items():
        _run_step(report, name, step)
    return report


def _steps(engine: Engine, reap_after: int) -> dict[str, Callable[[], int]]:
    def after_grace(step: Callable[[Engine], int]) -> Callable[[], int]:
        def perform() -> int:
            is_over = reap_after == 0 or engine.database.read(database_now) >= reap_after
            return step(engine) if is_over else 0

        return perform

    return {
        "reaped": after_grace(reap_expired),
        "suspensions_expired": after_grace(expire_suspensions),
        "queue_timeouts": after_grace(expire_queued),
        "deadlines_passed": after_grace(expire_runs),
        "orphans_cancelled": lambda: cancel_orphans(engine),
        "cleanups_sent": lambda: _send_cleanups(engine),
        "dispatched": lambda: redispatch_due(engine),
        "pruned": lambda: prune_some(engine),
    }


def _send_cleanups(engine: Engine) -> int:
    slack_ms, limit = to_milliseconds(engine.settings.dispatch_slack), engine.settings.sweep_batch
    hints = engine.database.transact(lambda tx: dispatch_cleanups(tx, slack_ms=slack_ms, limit=limit))
    engine.dispatcher.dispatch(hints)
    return len(hints)


def _run_step(report: SweepReport, name: str, step: Callable[[], int]) -> None:
    try:
        count = step()
    except Exception as error:
        logger.exception("step %r of the sweep failed; the next sweep tries again", name, exc_info=loggable(error))
        report.errors[name] = summarize_any(error)
    else:
        if count:
            report.repaired[name] = count
            logger.info("sweep: %s %d", name, count)
