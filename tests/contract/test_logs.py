"""Log lines of a run, on both databases."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.errors import InvalidRequestError
from workflow_engine.store.moves.attempt_reports import write_log_lines
from workflow_engine.store.reads.logs import append_log, list_logs
from workflow_engine.store.records import LogLine

if TYPE_CHECKING:
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.records import Claim

NEW_YEAR = 1_735_689_600_000


def _write(database: Database, claim: Claim, *instants: int, start: int = 1) -> None:
    lines = [
        LogLine(line=number, level="info", message=f"{claim.stage_id} {number}", fields='{"n":1}', created_at=instant)
        for number, instant in enumerate(instants, start)
    ]
    database.transact(lambda tx: write_log_lines(tx, claim, lines))


def _messages(database: Database, run_id: str, **wanted: Any) -> list[str]:
    return [entry.message for entry in database.read(lambda tx: list_logs(tx, run_id, **wanted)).items]


def test_lines_are_listed_by_time_and_within_an_instant_in_their_order(database: Database, records: Any) -> None:
    run_id = records.run()
    extract, classify = records.claim(run_id, "extract"), records.claim(run_id, "classify")
    _write(database, extract, NEW_YEAR, NEW_YEAR, NEW_YEAR + 2)
    _write(database, classify, NEW_YEAR + 1)
    _write(database, records.claim(records.run()), NEW_YEAR)

    assert _messages(database, run_id) == ["extract 1", "extract 2", "classify 1", "extract 3"]
    assert _messages(database, run_id, stage_id="classify") == ["classify 1"]


def test_lines_that_are_written_twice_are_stored_once(database: Database, records: Any) -> None:
    claim = records.claim(records.run())

    _write(database, claim, NEW_YEAR, NEW_YEAR)
    _write(database, claim, NEW_YEAR, NEW_YEAR, NEW_YEAR)

    assert _messages(database, claim.run_id) == ["extract 1", "extract 2", "extract 3"]


def test_pages_of_lines_miss_none(database: Database, records: Any) -> None:
    claim = records.claim(records.run())
    _write(database, claim, *[NEW_YEAR] * 5)

    pages, after = [], None
    while not pages or after is not None:
        page = database.read(lambda tx, after=after: list_logs(tx, claim.run_id, after=after, limit=2))
        pages.append([entry.line for entry in page.items])
        after = page.next_cursor

    assert pages == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize("cursor", ["", "x", "1_2_3", "1_s_2_3_4", "one_s_1_1"])
def test_a_cursor_that_no_page_gave_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not the cursor"):
        _messages(database, "run", after=cursor)


def test_an_entry_tells_everything_about_its_line(database: Database, records: Any) -> None:
    claim = records.claim(records.run())
    _write(database, claim, NEW_YEAR)

    [entry] = database.read(lambda tx: list_logs(tx, claim.run_id)).items

    assert (entry.stage_run_id, entry.stage_id, entry.attempt, entry.fence) == (claim.stage_run_id, "extract", 1, 1)
    assert (entry.level, entry.fields, entry.created_at.isoformat()) == ("info", {"n": 1}, "2025-01-01T00:00:00+00:00")


def test_lines_from_outside_count_by_themselves_on_the_live_stage_run(database: Database, records: Any) -> None:
    run_id = records.run()
    records.stage(run_id, superseded_by=1, status="CANCELLED")
    claim = records.claim(run_id, generation=1)
    _write(database, claim, NEW_YEAR)

    for message in ("one", "two"):
        assert append_log(database, run_id, "extract", level="info", message=message, fields='{"a":1}')

    first, second, third = database.read(lambda tx: list_logs(tx, run_id)).items
    assert (first.fence, first.message) == (1, "extract 1")
    assert [(entry.fence, entry.line, entry.message) for entry in (second, third)] == [(0, 1, "one"), (0, 2, "two")]
    assert (second.stage_run_id, second.fields) == (claim.stage_run_id, {"a": 1})


def test_a_line_for_a_stage_that_has_no_stage_run_is_not_written(database: Database, records: Any) -> None:
    run_id = records.run()

    written = append_log(database, run_id, "extract", level="info", message="lost")

    assert written is False
    assert _messages(database, run_id) == []


def test_lines_from_several_outsiders_at_once_are_all_kept(database: Database, records: Any) -> None:
    run_id = records.run()
    records.stage(run_id)
    barrier = threading.Barrier(4)

    def write() -> None:
        barrier.wait(10)
        for _ in range(5):
            append_log(database, run_id, "extract", level="info", message="x")

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    lines = [entry.line for entry in database.read(lambda tx: list_logs(tx, run_id)).items]
    assert sorted(lines) == list(range(1, 21))
