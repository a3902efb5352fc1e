"""Whatever a body logs, in whichever thread or task it runs, names its stage."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from workflow_engine.definition import NoInput, StageContext, WorkflowBuilder, stage
from workflow_engine.facade.executor import WorkflowExecutor
from workflow_engine.log_context import StageLogFilter

library = logging.getLogger("some.library")


@stage
def plain(ctx: StageContext[NoInput]) -> int:
    library.warning("hello")
    return 1


@stage(timeout=timedelta(seconds=30))
def limited(ctx: StageContext[NoInput]) -> int:
    library.warning("hello")
    return 1


@stage
async def coroutine(ctx: StageContext[NoInput]) -> int:
    library.warning("hello")
    return 1


def test_lines_of_libraries_name_the_stage_whatever_runs_the_body(caplog: pytest.LogCaptureFixture) -> None:
    workflow = WorkflowBuilder("logging").pipe(plain).pipe(limited).pipe(coroutine).build()
    caplog.handler.addFilter(StageLogFilter())

    WorkflowExecutor(workflow).execute()

    lines = [record for record in caplog.records if record.name == "some.library"]
    assert [record.__dict__["stage_id"] for record in lines] == ["plain", "limited", "coroutine"]
