"""Annotations from outside a stage, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.clock import instant_to_ms
from workflow_engine.errors import IdempotencyConflictError, RunNotFoundError
from workflow_engine.ids import new_id
from workflow_engine.store.reads.annotations import AnnotationFilter, add_annotation, list_annotations

if TYPE_CHECKING:
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.reads.snapshots import AnnotationEntry


def _add(database: Database, run_id: str, key: str = "review.score", **values: Any) -> AnnotationEntry:
    given = {"annotation_id": new_id(), "value": "4", "actor": "api"} | values
    return database.transact(lambda tx: add_annotation(tx, run_id=run_id, key=key, **given))


def _keys(database: Database, run_id: str, **wanted: Any) -> list[str]:
    found = database.read(lambda tx: list_annotations(tx, run_id, AnnotationFilter(**wanted)))
    return [entry.key for entry in found]


def test_an_annotation_is_kept_with_its_actor_and_the_generation_of_the_run(database: Database, records: Any) -> None:
    run_id = records.run(generation=2)

    added = _add(database, run_id, value='{"score":4}', actor="ada")

    [found] = database.read(lambda tx: list_annotations(tx, run_id, AnnotationFilter()))
    assert found == added
    assert (found.value, found.actor, found.generation, found.stage_id) == ({"score": 4}, "ada", 2, None)


def test_the_same_idempotency_key_keeps_one_annotation(database: Database, records: Any) -> None:
    run_id = records.run()

    first = _add(database, run_id, idempotency_key="vote-1")
    second = _add(database, run_id, idempotency_key="vote-1")
    other = _add(database, records.run(), idempotency_key="vote-1")

    assert second == first
    assert other.run_id != run_id
    assert _keys(database, run_id) == ["review.score"]


@pytest.mark.parametrize("change", [{"value": "5"}, {"actor": "eve"}, {"key": "review.other"}])
def test_an_idempotency_key_with_another_annotation_is_a_conflict(
    database: Database, records: Any, change: dict[str, str]
) -> None:
    run_id = records.run()
    _add(database, run_id, idempotency_key="vote-1")

    with pytest.raises(IdempotencyConflictError, match=r"vote-1.*review\.score"):
        _add(database, run_id, idempotency_key="vote-1", **change)

    assert _keys(database, run_id) == ["review.score"]


def test_without_an_idempotency_key_every_call_adds_one(database: Database, records: Any) -> None:
    run_id = records.run()

    _add(database, run_id)
    _add(database, run_id)

    assert len(_keys(database, run_id)) == 2


def test_an_annotation_of_an_unknown_run_is_refused(database: Database) -> None:
    with pytest.raises(RunNotFoundError):
        _add(database, "no-such-run")


def test_annotations_are_found_by_prefix_actor_stage_and_generation(database: Database, records: Any) -> None:
    run_id = records.run()
    _add(database, run_id, "review.score", actor="ada")
    _add(database, run_id, "Review.score", actor="eve")
    _add(database, run_id, "review_score")
    records.stage(run_id, "extract", generation=1)
    records.insert(
        "workflow_annotations",
        id="z",
        run_id=run_id,
        key="pages.read",
        value="1",
        actor="stage",
        stage_id="extract",
        attempt=1,
        generation=1,
        created_at=2_000_000_000_000,
    )

    assert _keys(database, run_id, prefix="review.") == ["review.score"]
    assert _keys(database, run_id, actor="eve") == ["Review.score"]
    assert _keys(database, run_id, stage_id="extract") == ["pages.read"]
    assert _keys(database, run_id, generation=1) == ["pages.read"]
    assert len(_keys(database, run_id)) == 4


def test_annotations_are_found_by_attempt_and_time(database: Database, records: Any) -> None:
    run_id = records.run()
    for day, attempt in ((1, 1), (2, 2)):
        instant = datetime(2025, 1, day, tzinfo=UTC)
        records.insert(
            "workflow_annotations",
            id=new_id(),
            run_id=run_id,
            key=f"day.{day}",
            value="1",
            actor="stage",
            generation=0,
            attempt=attempt,
            created_at=instant_to_ms(instant),
        )
    second = datetime(2025, 1, 2, tzinfo=UTC)

    assert _keys(database, run_id, attempt=2) == ["day.2"]
    assert _keys(database, run_id, created_after=second) == ["day.2"]
    assert _keys(database, run_id, created_before=second) == ["day.1"]
