"""A runtime that executes its runs itself, in threads, over the broker in memory or a team's own app."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from tests.integration.pages import Page, Stamp, approval, approve, mark, pages
from workflow_engine import RunStatus, StageContext, WorkflowBuilder, WorkflowRuntime, stage
from workflow_engine.engine import execute_stage
from workflow_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = timedelta(seconds=60)


@stage
def seal(ctx: StageContext[Stamp]) -> str:
    return f"sealed {ctx.input.number}"


signature = WorkflowBuilder("signature", input=Page).pipe(approve).pipe(seal).build()


@pytest.fixture
def runtime(database_url: str) -> Iterator[WorkflowRuntime]:
    with WorkflowRuntime(
        [pages, approval, signature], database_url=database_url, queue=f"q{id(database_url)}"
    ) as runtime:
        yield runtime


def test_runs_are_executed_until_stop_and_again_after_the_next_start(runtime: WorkflowRuntime) -> None:
    early = runtime.create_run(pages, Page(number=1))
    runtime.start(concurrency=2)

    assert early.wait(LONG)[mark] == Stamp(number=1)
    assert runtime.stop() is True
    late = runtime.create_run(pages, Page(number=2))
    assert late.status is RunStatus.PENDING
    runtime.start(concurrency=1)
    assert late.wait(LONG)[mark] == Stamp(number=2)


def test_a_runtime_is_started_once(runtime: WorkflowRuntime) -> None:
    runtime.start()

    with pytest.raises(ConfigurationError, match="started already"):
        runtime.start()


def test_stopping_what_was_not_started_is_fine(runtime: WorkflowRuntime) -> None:
    assert runtime.stop() is True


def test_closing_leaves_no_thread(database_url: str) -> None:
    before = set(threading.enumerate())

    with WorkflowRuntime(pages, database_url=database_url).start(concurrency=2) as runtime:
        runtime.create_run(pages, Page(number=1)).wait(LONG)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)

    assert set(threading.enumerate()) <= before


def test_records_in_memory_outlive_a_stop() -> None:
    with WorkflowRuntime(pages, database_url="sqlite://", queue="in-memory") as runtime:
        run = runtime.start(concurrency=2).create_run(pages, Page(number=1))
        run.wait(LONG)
        runtime.stop()

        assert run.output()[mark] == Stamp(number=1)


def test_an_app_of_the_team_carries_the_messages(database_url: str) -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)

    with WorkflowRuntime(pages, database_url=database_url, app=app, queue="shop") as runtime:
        run = runtime.create_run(pages, Page(number=1))
        assert runtime.app is app
        assert runtime.start(concurrency=1) is runtime
        assert run.wait(LONG)[mark] == Stamp(number=1)


def test_a_runtime_has_one_app_and_an_app_one_runtime(runtime: WorkflowRuntime) -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    runtime.install(app)

    with pytest.raises(ConfigurationError, match="one app serves one runtime"):
        runtime.install(Celery("other", broker="memory://", set_as_current=False))
    with pytest.raises(ConfigurationError, match="one app serves one runtime"):
        WorkflowRuntime(pages, database_url="sqlite://", app=app)


def test_lost_messages_are_found_without_beat(database_url: str, silent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_SWEEP_IN_WORKERS", "never")
    short = timedelta(milliseconds=50)
    with (
        WorkflowRuntime(pages, database_url=database_url, dispatcher=silent, queue="lossy") as lossy,
        WorkflowRuntime(
            pages, database_url=database_url, queue="lossy", sweep_interval=short, dispatch_slack=short
        ) as runtime,
    ):
        run = lossy.create_run(pages, Page(number=1))

        runtime.start(concurrency=1)

        assert runtime.get_run(run.id).wait(LONG)[mark] == Stamp(number=1)


def test_a_reported_outcome_lets_a_waiting_run_go_on(runtime: WorkflowRuntime) -> None:
    run = runtime.create_run(signature, Page(number=1))
    execute_stage(runtime.engine, run.list_stages()[0].id, 1)
    runtime.start(concurrency=1)

    runtime.complete_stage(run.id, approve, Stamp(number=9))

    assert run.wait(LONG) == "sealed 9"
