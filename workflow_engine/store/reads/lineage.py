"""The records of a run's stage runs: their own, and where a fork shares an output, those of the output's producer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from workflow_engine.store.schema.tables import stages

if TYPE_CHECKING:
    from sqlalchemy import CTE


def lineage(run_id: str, *, history: bool = False) -> CTE:
    """Return pairs of a run's stage run (``owner``) and a stage run whose records count as its own (``origin``).

    In release 0.1.0 the fork of a fork names the stage run of the fork before it, so the way to the producer may have
    several steps. With ``history`` the stage runs that reruns superseded are included.
    """
    own = select(
        stages.c.id.label("owner"),
        stages.c.stage_id,
        stages.c.generation,
        stages.c.superseded_by,
        stages.c.id.label("origin"),
        stages.c.shared_from,
    ).where(stages.c.run_id == run_id)
    if not history:
        own = own.where(stages.c.superseded_by.is_(None))
    found = own.cte("lineage", recursive=True)
    earlier = stages.alias("earlier")
    step = (
        select(
            found.c.owner,
            found.c.stage_id,
            found.c.generation,
            found.c.superseded_by,
            found.c.shared_from,
            earlier.c.shared_from,
        )
        .join(earlier, earlier.c.id == found.c.shared_from, isouter=True)  # the producer's run may have been deleted
        .where(found.c.shared_from.is_not(None))
    )
    return found.union_all(step)
