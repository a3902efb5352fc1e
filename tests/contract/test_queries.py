"""Reading runs, stage runs and events, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.errors import InvalidRequestError
from workflow_engine.events import EventType
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.reads.event_queries import list_events
from workflow_engine.store.reads.run_queries import RunFilter, find_run, find_run_status, find_run_texts, list_runs
from workflow_engine.store.reads.snapshots import ErrorInfo
from workflow_engine.store.reads.stage_queries import find_output, list_attempts, list_stages
from workflow_engine.store.records import AttemptOutcome, ClaimKind

if TYPE_CHECKING:
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.reads.snapshots import RunSnapshot

NEW_YEAR = datetime(2025, 1, 1, tzinfo=UTC)


def _find(database: Database, run_id: str) -> RunSnapshot:
    found = database.read(lambda tx: find_run(tx, run_id))
    assert found is not None
    return found


def _ids(database: Database, **wanted: Any) -> list[str]:
    return [run.id for run in database.read(lambda tx: list_runs(tx, RunFilter(**wanted))).items]


def test_a_run_is_shown_with_its_instants_in_utc_and_its_metadata_decoded(database: Database, records: Any) -> None:
    run_id = records.run(
        status="COMPLETED",
        metadata='{"user":{"id":"u-1"}}',
        started_at=1_735_689_610_000,
        deadline_at=1_735_693_200_000,
        idempotency_key="doc-42",
    )

    run = _find(database, run_id)

    assert (run.status, run.workflow_id, run.idempotency_key) == (RunStatus.COMPLETED, "invoices", "doc-42")
    assert run.metadata == {"user": {"id": "u-1"}}
    assert run.created_at == NEW_YEAR
    assert run.deadline_at == NEW_YEAR + timedelta(hours=1)
    assert run.duration == timedelta(seconds=50)


def test_an_unknown_run_is_none(database: Database) -> None:
    assert database.read(lambda tx: find_run(tx, "no-such-run")) is None
    assert database.read(lambda tx: find_run_status(tx, "no-such-run")) is None
    assert database.read(lambda tx: find_run_texts(tx, "no-such-run")) is None


@pytest.mark.parametrize(
    ("stages", "shown"),
    [
        (["SUSPENDED"], RunStatus.SUSPENDED),
        (["SUSPENDED", "SUSPENDED"], RunStatus.SUSPENDED),
        (["SUSPENDED", "COMPLETED"], RunStatus.SUSPENDED),
        (["SUSPENDED", "PENDING"], RunStatus.RUNNING),
        (["SUSPENDED", "RUNNING"], RunStatus.RUNNING),
        (["COMPLETED", "RUNNING"], RunStatus.RUNNING),
    ],
)
def test_a_run_is_shown_suspended_when_all_its_active_stage_runs_are(
    database: Database, records: Any, stages: list[str], shown: RunStatus
) -> None:
    run_id = records.run()
    for number, status in enumerate(stages):
        records.stage(run_id, f"s{number}", status=status, output="1" if status == "COMPLETED" else None)

    run = _find(database, run_id)

    assert run.status is shown
    assert _ids(database, statuses=[shown]) == [run_id]
    assert _ids(database, statuses={RunStatus.SUSPENDED, RunStatus.RUNNING} - {shown}) == []
    assert database.read(lambda tx: find_run_status(tx, run_id)) is RunStatus.RUNNING


def test_stage_runs_that_a_rerun_replaced_do_not_count(database: Database, records: Any) -> None:
    run_id = records.run(generation=1)
    records.stage(run_id, superseded_by=1)
    records.stage(run_id, status="SUSPENDED", generation=1)

    run = _find(database, run_id)

    assert run.status is RunStatus.SUSPENDED


def test_cost_and_tokens_add_up_over_all_stage_runs_of_that_run_only(database: Database, records: Any) -> None:
    run_id, other = records.run(id="run-1"), records.run(id="run-10")
    records.stage(run_id, "a", cost_nanos=1, tokens=10)
    records.stage(run_id, "b", cost_nanos=2_500_000_000, tokens=5)
    records.stage(run_id, "b", cost_nanos=10, tokens=1, status="FAILED", superseded_by=1)
    records.stage(other, "a", cost_nanos=7, tokens=7)

    run = _find(database, run_id)

    assert (run.total_cost, run.total_tokens) == (Decimal("2.500000011"), 16)


def test_a_failed_run_names_the_stage_that_failed(database: Database, records: Any) -> None:
    run_id = records.run()
    stage_run_id = records.stage(run_id, "classify", status="FAILED")
    failed = records.run(status="FAILED", failed_stage_run_id=stage_run_id, error_message="no such model")

    run = _find(database, failed)

    assert (run.failed_stage_id, run.error_code, run.error_message) == ("classify", "STAGE_ERROR", "no such model")


def test_a_pause_of_the_run_and_one_of_its_workflow_are_told_apart(database: Database, records: Any) -> None:
    paused, other = records.run(paused_at=1), records.run(workflow_id="letters")
    records.insert("workflow_controls", workflow_id="letters", paused_at=1)

    assert [(run.paused, run.workflow_paused) for run in (_find(database, paused), _find(database, other))] == [
        (True, False),
        (False, True),
    ]


def test_pages_go_from_the_newest_to_the_oldest_run_and_miss_none(database: Database, records: Any) -> None:
    ids = [records.run(id=f"run-{number}") for number in range(5)]

    pages, cursor = [], None
    while not pages or cursor is not None:
        page = database.read(lambda tx, cursor=cursor: list_runs(tx, RunFilter(), limit=2, cursor=cursor))
        pages.append([run.id for run in page.items])
        cursor = page.next_cursor

    assert pages == [ids[:2:-1], ids[2:0:-1], ids[:1]]


def test_a_last_page_that_is_full_has_no_next_one(database: Database, records: Any) -> None:
    records.run()
    records.run()

    page = database.read(lambda tx: list_runs(tx, RunFilter(), limit=2))

    assert (len(page.items), page.next_cursor) == (2, None)


def test_runs_are_found_by_workflow_status_parent_and_time(database: Database, records: Any) -> None:
    old = records.run(id="1", workflow_id="letters", status="CANCELLED", created_at=1_735_689_600_000)
    new = records.run(id="2", parent_run_id=old, created_at=1_735_689_600_000 + 1000)
    second = NEW_YEAR + timedelta(seconds=1)

    assert _ids(database, workflow_id="letters") == [old]
    assert _ids(database, statuses=[RunStatus.CANCELLED]) == [old]
    assert _ids(database, statuses=[RunStatus.CANCELLED, RunStatus.RUNNING]) == [new, old]
    assert _ids(database, parent_run_id=old) == [new]
    assert _ids(database, created_after=second) == [new]
    assert _ids(database, created_before=second) == [old]
    assert _ids(database, completed_after=NEW_YEAR + timedelta(minutes=1)) == [old]
    assert _ids(database, completed_after=NEW_YEAR + timedelta(minutes=2)) == []
    assert _ids(database, workflow_id="letters", statuses=[RunStatus.RUNNING]) == []


def test_runs_are_found_by_scalars_of_their_metadata_and_types_matter(database: Database, records: Any) -> None:
    text = records.run(id="1", found_by={"user": "1", "team": "blue"})
    number = records.run(id="2", found_by={"user": 1, "team": "blue"})

    assert _ids(database, metadata={"user": "1"}) == [text]
    assert _ids(database, metadata={"user": 1}) == [number]
    assert _ids(database, metadata={"team": "blue"}) == [number, text]
    assert _ids(database, metadata={"team": "blue", "user": True}) == []


@pytest.mark.parametrize("value", [{"a": 1}, [1], "x" * 300])
def test_a_metadata_value_that_is_not_searchable_is_refused_by_name(database: Database, value: object) -> None:
    with pytest.raises(InvalidRequestError, match="user="):
        _ids(database, metadata={"user": value})


def test_the_payloads_of_a_run_come_back_as_they_were_written(database: Database, records: Any) -> None:
    run_id = records.run(input='{"b":1.0,"a":"\\u0000\\ud800"}', config='{"extract":{}}')

    texts = database.read(lambda tx: find_run_texts(tx, run_id))

    assert (texts.input, texts.config) == ('{"b":1.0,"a":"\\u0000\\ud800"}', '{"extract":{}}')


def test_stages_are_listed_in_the_order_of_the_workflow_and_history_on_demand(database: Database, records: Any) -> None:
    run_id = records.run()
    records.stage(run_id, "second", stage_number=2, execution_group=2)
    records.stage(run_id, "first", status="COMPLETED", output="1")
    records.stage(run_id, "second", stage_number=2, execution_group=2, superseded_by=1, status="CANCELLED")

    now = database.read(lambda tx: list_stages(tx, run_id))
    history = database.read(lambda tx: list_stages(tx, run_id, history=True))

    assert [stage.stage_id for stage in now] == ["first", "second"]
    assert sorted((stage.stage_id, stage.is_live) for stage in history) == [
        ("first", True),
        ("second", False),
        ("second", True),
    ]


def test_a_failed_stage_run_shows_its_error_cost_and_times(database: Database, records: Any) -> None:
    run_id = records.run()
    records.stage(
        run_id,
        status="FAILED",
        error_type="ValueError",
        error_message="no",
        error_traceback="Traceback …",
        cost_nanos=1_000_000,
        metrics='{"pages":3.0}',
        started_at=1_735_689_630_000,
    )

    [stage] = database.read(lambda tx: list_stages(tx, run_id))

    assert stage.status is StageStatus.FAILED
    assert stage.error == ErrorInfo("STAGE_ERROR", "ValueError", "no", "Traceback …")
    assert (stage.cost, stage.metrics) == (Decimal("0.001"), {"pages": 3.0})
    assert (stage.started_at, stage.duration) == (NEW_YEAR + timedelta(seconds=30), timedelta(seconds=30))


def test_every_claim_of_a_stage_is_listed_the_oldest_first(database: Database, records: Any) -> None:
    run_id = records.run()
    old = records.stage(run_id, status="CANCELLED", superseded_by=1)
    new = records.stage(run_id, status="RUNNING", generation=1)
    claim = {"kind": "EXECUTE", "attempt": 1, "lease_id": "l", "worker_id": "w", "started_at": 1_735_689_600_000}
    ended = {"ended_at": 1_735_689_601_000, "outcome": "FAILED", "error_code": "TIMEOUT", "error_message": "late"}
    records.insert("workflow_attempts", stage_run_id=new, fence=1, **claim)
    records.insert("workflow_attempts", stage_run_id=old, fence=2, **(claim | ended | {"kind": "POLL"}))
    records.insert("workflow_attempts", stage_run_id=old, fence=1, **claim | ended)

    first, second, third = database.read(lambda tx: list_attempts(tx, run_id, "extract", history=True))

    assert [(a.stage_run_id, a.fence) for a in (first, second, third)] == [(old, 1), (old, 2), (new, 1)]
    assert (first.outcome, first.duration) == (AttemptOutcome.FAILED, timedelta(seconds=1))
    assert first.error == ErrorInfo("TIMEOUT", None, "late")
    assert second.kind is ClaimKind.POLL
    assert (third.outcome, third.duration, third.error) == (None, None, None)


def test_the_output_of_the_live_stage_run_is_found(database: Database, records: Any) -> None:
    run_id = records.run()
    records.stage(run_id, "a", status="COMPLETED", output="1", superseded_by=1)
    records.stage(run_id, "a", status="COMPLETED", output="2", generation=1)
    records.stage(run_id, "b")

    found, waiting, unknown = (
        database.read(lambda tx, name=name: find_output(tx, run_id, name)) for name in ("a", "b", "c")
    )

    assert (found.status, found.payload) == (StageStatus.COMPLETED, "2")
    assert (waiting.status, waiting.payload) == (StageStatus.PENDING, None)
    assert unknown is None


def test_events_are_read_in_order_from_where_the_reader_stopped(database: Database, records: Any) -> None:
    run_id = records.run()
    for sequence in (3, 1, 2):
        records.insert(
            "workflow_events",
            run_id=run_id,
            sequence=sequence,
            generation=0,
            type="stage.started",
            stage_id="extract",
            payload='{"attempt":1}',
            created_at=1_735_689_600_000,
        )

    events = database.read(lambda tx: list_events(tx, run_id, after_sequence=1))
    one = database.read(lambda tx: list_events(tx, run_id, limit=1))

    assert [event.sequence for event in events] == [2, 3]
    assert (events[0].type, events[0].payload) == (EventType.STAGE_STARTED, {"attempt": 1})
    assert [event.sequence for event in one] == [1]
