"""Log records carry the stage that is executed."""

from __future__ import annotations

import logging

from workflow_engine.log_context import ExecutedStage, StageLogFilter, executing


def _record() -> logging.LogRecord:
    record = logging.LogRecord("library", logging.INFO, __file__, 1, "hello", None, None)
    assert StageLogFilter().filter(record)
    return record


def test_records_inside_a_stage_name_it_and_others_do_not() -> None:
    with executing(ExecutedStage("run-1", "extract", 2)):
        inside = _record()
    outside = _record()

    assert (inside.__dict__["run_id"], inside.__dict__["stage_id"], inside.__dict__["attempt"]) == (
        "run-1",
        "extract",
        2,
    )
    assert (outside.__dict__["run_id"], outside.__dict__["stage_id"], outside.__dict__["attempt"]) == ("-", "-", "-")
