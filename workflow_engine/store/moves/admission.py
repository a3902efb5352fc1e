"""May a stage run be taken now? The one rule, as expressions over whatever has the columns: a table, an alias, a CTE.

A stage run may be taken when three admit it:

- itself: ``is_due``. It waits (live generation, for an attempt or for a poll, no lease) and its time has come;
- its run: ``run_admits``. It has not ended and is not paused;
- its workflow: ``workflow_admits``. Nobody paused it.

Made from these expressions: the claim (the portable one in ``claims`` and the statement in ``postgres``, which compiles
them into its text), the sweep's search for due work (``upkeep.due``), the redispatch by hand
(``engine.commands.redispatch``), and what ``doctor`` counts (``upkeep.health``). A change of the rule is made here.

Whether the workflow is paused, a claim on PostgreSQL asks by ``workflow_admits_claims``, after it has locked the run:
a statement that waited for a lock sees the other tables as they were before the wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import and_, case, exists, func, not_, select

from workflow_engine.lifecycle import LIVE_RUN, StageMove
from workflow_engine.store.schema.tables import controls, runs, stages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

    from workflow_engine.lifecycle import RunStatus, StageStatus

    Condition = sa.ColumnElement[bool]
    Instant = sa.ColumnElement[int] | int


def may_be_taken(instant: Instant) -> Condition:
    """Whether a row of ``workflow_stages`` may be taken at the instant, by the records that the statement sees."""
    its_run_admits = exists().where(runs.c.id == stages.c.run_id, admits(runs))
    return and_(is_due(stages, instant), its_run_admits)


def is_due(stage: sa.FromClause, instant: Instant) -> Condition:
    """Whether the stage run waits, and its time has come at the instant."""
    return and_(waits(stage), due_at(stage) <= instant)


def waits(stage: sa.FromClause) -> Condition:
    """Whether the stage run waits for a worker, or for its time; the partial index of waiting stage runs serves it."""
    return and_(
        stage.c.superseded_by.is_(None),
        _is_one_of(stage.c.status, StageMove.CLAIM.sources | StageMove.CLAIM_POLL.sources),
        stage.c.lease_id.is_(None),
    )


def due_at(stage: sa.FromClause) -> sa.ColumnElement[int]:
    """When a waiting stage run may be taken: for its next attempt, or for its next poll."""
    waits_for_attempt = _is_one_of(stage.c.status, StageMove.CLAIM.sources)
    return case((waits_for_attempt, stage.c.available_at), else_=stage.c.next_poll_at)


def admits(run: sa.FromClause) -> Condition:
    """Whether the run and its workflow let stage runs be taken that are due."""
    return and_(run_admits(run), workflow_admits(run.c.workflow_id))


def run_admits(run: sa.FromClause) -> Condition:
    """Whether the run has not ended and is not paused itself."""
    return and_(_is_one_of(run.c.status, LIVE_RUN), run.c.paused_at.is_(None))


def workflow_admits(workflow_id: sa.ColumnElement[str]) -> Condition:
    """Whether the workflow is not paused, by the records that the statement sees."""
    return ~exists().where(controls.c.workflow_id == workflow_id)


def workflow_admits_claims(workflow_id: sa.ColumnElement[str]) -> Condition:
    """Whether the workflow is not paused and will not be before the transaction's end; PostgreSQL only.

    The function is VOLATILE: it sees what is true when it is called, not what was when the statement began.
    """
    return not_(func.workflow_is_paused(workflow_id, type_=sa.Boolean()))


def still_admits_claims(tx: Connection, workflow_id: str) -> bool:
    """Whether the workflow of a run that admitted claims when it was locked still does, until the transaction ends.

    A writing transaction of SQLite is alone: nobody has paused the workflow meanwhile.
    """
    if tx.dialect.name != "postgresql":
        return True
    return bool(tx.scalar(select(workflow_admits_claims(sa.literal(workflow_id)))))


def _is_one_of(column: sa.ColumnElement[str], statuses: Iterable[RunStatus | StageStatus]) -> Condition:
    return column.in_(sorted(status.value for status in statuses))
