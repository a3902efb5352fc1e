"""Work that is due and has no live message: found by a watermark, never by age alone.

Each list of the broker, a queue and priority, is first in, first out, and is read before the lists of lower priorities.
So when a message that was dispatched at T has been claimed, everything sent before T to its list and to the more
important ones of its queue was delivered or lost; when a list is empty, everything sent to it was.
A deep backlog is therefore never sent twice, however old it grows, and lost messages are found however young they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import and_, case, func, or_, select, update

from workflow_engine.lifecycle import StageStatus
from workflow_engine.priorities import LOWEST_POLL_PRIORITY, RECOVERY_PRIORITY
from workflow_engine.store.moves.admission import due_at, is_due, may_be_taken, waits
from workflow_engine.store.records import Hint
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import stages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

#: Claims older than this say nothing new about the lists.
_RECENT_CLAIMS_MS = 10 * 60 * 1000
#: A message that stays lost is sent again at most this seldom.
_LONGEST_SPACING_MS = 5 * 60 * 1000
#: From then on the spacing is the longest, whatever the slack; it keeps the square from overflowing.
_MOST_SPACED_TRIES = 1000

_HINT_COLUMNS = ("id", "dispatch_number", "run_id", "stage_id", "queue", "dispatch_priority")

_due_at = due_at(stages)
#: Which list of its queue a waiting stage run is sent to.
_own_priority = case(
    (
        and_(stages.c.status == StageStatus.SUSPENDED.value, stages.c.priority < LOWEST_POLL_PRIORITY),
        LOWEST_POLL_PRIORITY,
    ),
    else_=stages.c.priority,
)


@dataclass(frozen=True, slots=True)
class WaitingList:
    """A list of the broker that stage runs wait in, by the records."""

    queue: str
    priority: int
    #: Everything sent to it before this instant was delivered or lost, as far as claims tell; 0: they tell nothing.
    delivered_until: int


def waiting_lists(tx: Connection) -> tuple[int, list[WaitingList]]:
    """Return the database's time, and the lists that hold, or should hold, messages of stage runs that are due."""
    present = int(tx.scalar(select(now())) or 0)
    rows = tx.execute(
        select(stages.c.queue, stages.c.dispatch_priority).where(is_due(stages, present)).distinct()
    ).all()
    marks = {
        (row.queue, row.dispatch_priority): row.mark
        for row in tx.execute(
            select(stages.c.queue, stages.c.dispatch_priority, func.max(stages.c.claimed_dispatch_at).label("mark"))
            .where(stages.c.claimed_at > present - _RECENT_CLAIMS_MS, stages.c.claimed_dispatch_at.is_not(None))
            .group_by(stages.c.queue, stages.c.dispatch_priority)
        )
    }
    return present, [WaitingList(queue, priority, _delivered_until(marks, queue, priority)) for queue, priority in rows]


def _delivered_until(marks: Mapping[tuple[str, int], int], queue: str, priority: int) -> int:
    """Return until when everything sent to the list was delivered or lost, by the newest claim of each list.

    A broker that cannot tell whether a list is empty (RabbitMQ counts whole queues) would never give up what it lost of
    an important list while a less important one is full.
    """
    return max((mark for (other, rank), mark in marks.items() if other == queue and rank <= priority), default=0)


def dispatch_due(tx: Connection, waiting: WaitingList, *, slack_ms: int, limit: int) -> list[Hint]:
    """Give a batch of due stage runs of a list that have no live message a new one; return what to send.

    Due polls and retries go to the list of their own priority; what was sent and lost goes to the recovery lane.
    """
    is_new = stages.c.dispatched_at < _due_at
    batch = (
        select(stages.c.id)
        .where(
            stages.c.queue == waiting.queue,
            stages.c.dispatch_priority == waiting.priority,
            may_be_taken(now()),
            or_(is_new, _is_lost(waiting.delivered_until, slack_ms)),
        )
        .order_by(stages.c.dispatched_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("batch")
    )
    rows = tx.execute(
        update(stages)
        .where(stages.c.id.in_(select(batch.c.id)), waits(stages))
        .values(
            dispatched_at=now(),
            dispatch_number=stages.c.dispatch_number + 1,
            dispatch_priority=case((is_new, _own_priority), else_=RECOVERY_PRIORITY),
            redispatches=case((is_new, 0), else_=stages.c.redispatches + 1),
            claimed_dispatch_at=sa.null(),
        )
        .returning(*(stages.c[name] for name in _HINT_COLUMNS))
    )
    return [Hint(*row) for row in rows]


def find_stuck_runs(tx: Connection, waiting: WaitingList, *, slack_ms: int, patience_ms: int, limit: int) -> list[str]:
    """Return runs with work of that list that nothing will bring forward: no lease, no later time, no message.

    That is what the sweep repairs, so only what has been so for ``patience_ms`` counts.
    """
    earlier = now() - patience_ms
    query = (
        select(stages.c.run_id)
        .where(
            stages.c.queue == waiting.queue,
            stages.c.dispatch_priority == waiting.priority,
            may_be_taken(earlier),
            or_(stages.c.dispatched_at < _due_at, _is_lost(waiting.delivered_until, slack_ms, earlier)),
        )
        .distinct()
        .limit(limit)
    )
    return list(tx.scalars(query))


def spacing(slack_ms: int) -> sa.ColumnElement[int]:
    """Return the expression for the least time from a stage run's last message to the next try."""
    tries = stages.c.redispatches + 1
    is_long = or_(tries > _MOST_SPACED_TRIES, slack_ms * tries * tries > _LONGEST_SPACING_MS)
    return case((is_long, _LONGEST_SPACING_MS), else_=slack_ms * tries * tries)


def _is_lost(
    delivered_until: int, slack_ms: int, instant: sa.ColumnElement[int] | None = None
) -> sa.ColumnElement[bool]:
    return and_(
        stages.c.dispatched_at < delivered_until - slack_ms,
        stages.c.dispatched_at < (now() if instant is None else instant) - spacing(slack_ms),
    )
