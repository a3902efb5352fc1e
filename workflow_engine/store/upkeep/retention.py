"""Deleting ended runs, a bounded batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, func, or_, select, update

from workflow_engine.lifecycle import LIVE_RUN
from workflow_engine.store.reads.artifacts import move_artifacts
from workflow_engine.store.schema.tables import artifacts, outputs, runs, stages

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql import Select

    from workflow_engine.lifecycle import RunStatus


def count_prunable(tx: Connection, statuses: Collection[RunStatus], ended_before: int) -> int:
    """Return how many runs of these terminal statuses ended before the instant."""
    return int(tx.scalar(select(func.count()).select_from(runs).where(*_is_prunable(statuses, ended_before))) or 0)


def prune_batch(tx: Connection, status: RunStatus, ended_before: int, limit: int) -> list[str]:
    """Delete up to ``limit`` such runs of one status, the longest ended first, with all that belongs to them; return their ids.

    An output and the artifacts of its stage run live as long as the run that produced it or a fork that shares it.
    """
    batch = select(runs.c.id).where(*_is_prunable([status], ended_before)).order_by(runs.c.completed_at).limit(limit)
    locked = list(tx.scalars(batch.with_for_update(skip_locked=True)))
    # Asked again under the locks: the first answer is of the moment before they were taken.
    run_ids = list(tx.scalars(select(runs.c.id).where(runs.c.id.in_(locked), *_is_prunable([status], ended_before))))
    if not run_ids:
        return []
    _keep_shared_artifacts(tx, run_ids)
    in_batch = stages.c.run_id.in_(run_ids)
    shared = list(tx.scalars(select(stages.c.output_id).where(in_batch, stages.c.shared_from.is_not(None))))
    tx.execute(delete(runs).where(runs.c.id.in_(run_ids)))
    has_fork = exists().where(stages.c.output_id == outputs.c.id, stages.c.shared_from.is_not(None))
    has_run = exists().where(runs.c.id == outputs.c.run_id)
    # Of the runs that share an output the last one deletes it; locked, so that of two at once one is the last.
    is_shared = or_(outputs.c.id.in_(shared), and_(outputs.c.run_id.in_(run_ids), has_fork))
    tx.execute(select(outputs.c.id).where(is_shared).order_by(outputs.c.id).with_for_update())
    tx.execute(delete(outputs).where(outputs.c.run_id.in_(run_ids), ~has_fork))
    tx.execute(delete(outputs).where(outputs.c.id.in_(shared), ~has_fork, ~has_run))
    return run_ids


def _keep_shared_artifacts(tx: Connection, run_ids: list[str]) -> None:
    """Give the artifacts that forks share to one that stays, before the runs are deleted."""
    forks = list(tx.scalars(_select_forks(run_ids)))
    if not forks:
        return
    _shorten_chains(tx, run_ids, forks)
    left = select(artifacts.c.stage_run_id).where(artifacts.c.run_id.in_(run_ids))
    if tx.execute(left.limit(1)).first() is None:
        return
    # Locked, so that nobody deletes them meanwhile; those that somebody has just deleted do not come back.
    lock = select(runs.c.id).where(runs.c.id.in_(forks)).order_by(runs.c.id).with_for_update(read=True, key_share=True)
    staying = list(tx.scalars(lock))
    shares = (
        select(stages.c.shared_from, func.min(stages.c.run_id))
        .where(stages.c.run_id.in_(staying), stages.c.shared_from.in_(left))
        .group_by(stages.c.shared_from)
    )
    for producer, fork_id in tx.execute(shares).all():
        move_artifacts(tx, run_ids, producer, fork_id)


def _select_forks(run_ids: list[str]) -> Select[Any]:
    """Return the query for other runs that share something with these, by their outputs: those have an index."""
    there = stages.alias("there")
    is_there = there.c.run_id.in_(run_ids)
    has_output = stages.c.output_id.in_(select(there.c.output_id).where(is_there, there.c.output_id.is_not(None)))
    ids = select(there.c.id).where(is_there).union(select(there.c.shared_from).where(is_there))
    was_skipped = and_(stages.c.output_id.is_(None), stages.c.shared_from.in_(ids))
    query = select(stages.c.run_id).where(stages.c.shared_from.is_not(None), or_(has_output, was_skipped))
    return query.where(stages.c.run_id.not_in(run_ids)).distinct()


def _shorten_chains(tx: Connection, run_ids: list[str], forks: list[str]) -> None:
    """Let forks of forks name the producer instead of the fork between, which is about to go (see ``lineage``)."""
    between = stages.alias("between")
    goes = (between.c.id == stages.c.shared_from, between.c.run_id.in_(run_ids), between.c.shared_from.is_not(None))
    statement = update(stages).where(stages.c.run_id.in_(forks), exists().where(*goes))
    producer = select(between.c.shared_from).where(*goes).scalar_subquery()
    while tx.execute(statement.values(shared_from=producer)).rowcount:
        pass


def _is_prunable(statuses: Collection[RunStatus], ended_before: int) -> tuple[ColumnElement[bool], ...]:
    """Tell which runs may go: not those that owe a clean-up, nor those whose live parent may wait for their output."""
    parents = runs.alias("parents")
    live = [status.value for status in LIVE_RUN]
    return (
        runs.c.status.in_([status.value for status in statuses]),
        runs.c.completed_at < ended_before,
        ~exists().where(stages.c.run_id == runs.c.id, stages.c.cleanup_due_at.is_not(None)),
        ~exists().where(parents.c.id == runs.c.parent_run_id, parents.c.status.in_(live)),
    )
