"""Annotations of runs. Those of a stage are written with its outcome (``store.moves.attempt_reports``), others here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, or_, select

from workflow_engine.errors import IdempotencyConflictError, RunNotFoundError
from workflow_engine.payloads.text import decode_json
from workflow_engine.store.connection.inserts import insert_or_ignore
from workflow_engine.store.reads.conditions import equal_to, within
from workflow_engine.store.reads.lineage import lineage
from workflow_engine.store.reads.snapshots import AnnotationEntry, from_row
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import metadata, runs, stages

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection, RowMapping
    from sqlalchemy.sql import Select

_annotations = metadata.tables["workflow_annotations"]


@dataclass(frozen=True, slots=True)
class AnnotationFilter:
    """Which annotations to list; a field that is not given does not restrict them."""

    #: Start of the key: ``"review."`` finds ``review.score``.
    prefix: str = ""
    actor: str | None = None
    stage_id: str | None = None
    generation: int | None = None
    attempt: int | None = None
    #: Inclusive.
    created_after: datetime | None = None
    #: Exclusive.
    created_before: datetime | None = None
    #: Also those of stage runs that reruns superseded.
    history: bool = False


def add_annotation(
    tx: Connection,
    *,
    annotation_id: str,
    run_id: str,
    key: str,
    value: str,
    actor: str,
    idempotency_key: str | None = None,
) -> AnnotationEntry:
    """Attach a value (JSON text) to a run; the same idempotency key returns the same annotation.

    Raises:
        RunNotFoundError: There is no such run.
        IdempotencyConflictError: The idempotency key was used on this run for another annotation.
    """
    # Locked first: the run must not be deleted, or rerun, between the question and the insertion.
    generation = tx.scalar(
        select(runs.c.generation).where(runs.c.id == run_id).with_for_update(read=True, key_share=True)
    )
    if generation is None:
        raise RunNotFoundError(run_id)
    row: dict[str, Any] = {"id": annotation_id, "run_id": run_id, "key": key, "value": value, "actor": actor}
    row |= {"idempotency_key": idempotency_key, "generation": generation, "created_at": now()}
    tx.execute(insert_or_ignore(tx, _annotations).values(row))
    same = _annotations.c.id == annotation_id
    if idempotency_key is not None:
        same = (_annotations.c.run_id == run_id) & (_annotations.c.idempotency_key == idempotency_key)
    found = tx.execute(select(_annotations).where(same)).mappings().one()
    if (found["key"], found["value"], found["actor"]) != (key, value, actor):
        raise IdempotencyConflictError(
            f"The idempotency key {idempotency_key!r} was used on run {run_id} for another annotation, {found['key']!r}"
        )
    return _annotation_entry(found)


def list_annotations(tx: Connection, run_id: str, wanted: AnnotationFilter) -> list[AnnotationEntry]:
    """Read the annotations of a run, the oldest first; those of the stage runs that a fork shares included."""
    query = (
        select(_annotations)
        .where(or_(_is_own(run_id, history=wanted.history), _annotations.c.id.in_(_shared(run_id, wanted))))
        .where(*equal_to(_annotations, wanted, "actor", "stage_id", "generation", "attempt"))
        .where(*within(_annotations.c.created_at, wanted.created_after, wanted.created_before))
        .order_by(_annotations.c.created_at, _annotations.c.id)
    )
    rows = tx.execute(query).mappings()
    # The prefix is compared here: LIKE ignores case on SQLite.
    return [_annotation_entry(row) for row in rows if row["key"].startswith(wanted.prefix)]


def _is_own(run_id: str, *, history: bool) -> ColumnElement[bool]:
    """Return that an annotation was left in the run itself, by one of its stage runs or from outside of stages."""
    is_of_run = _annotations.c.run_id == run_id
    if history:
        return is_of_run
    is_live = exists().where(*_left_by(stages), stages.c.superseded_by.is_(None))
    return and_(is_of_run, or_(_annotations.c.stage_id.is_(None), is_live))


def _shared(run_id: str, wanted: AnnotationFilter) -> Select[tuple[str]]:
    """Return the ids of annotations left by the stage runs of other runs whose outputs this one shares."""
    members = lineage(run_id, history=wanted.history)
    producers = (
        select(_annotations.c.id).join(stages, and_(*_left_by(stages))).join(members, members.c.origin == stages.c.id)
    )
    return producers.where(members.c.origin != members.c.owner)


def _left_by(producers: Table) -> tuple[ColumnElement[bool], ...]:
    """Return that a stage run left an annotation: a run has one stage run of each stage and generation."""
    return tuple(_annotations.c[name] == producers.c[name] for name in ("run_id", "stage_id", "generation"))


def _annotation_entry(row: RowMapping) -> AnnotationEntry:
    return from_row(AnnotationEntry, row, value=decode_json(row["value"]))
