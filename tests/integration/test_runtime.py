"""The facade on both databases, with stages executed by an executor or by nobody."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from workflow_engine import (
    GroupOutput,
    RunStatus,
    Settings,
    StageStatus,
    WorkflowBuilder,
    WorkflowExecutor,
    WorkflowRuntime,
)
from workflow_engine.errors import (
    ArtifactNotFoundError,
    IdempotencyConflictError,
    InvalidDataError,
    MigrationRequiredError,
    RunCancelled,
    RunFailed,
    RunNotFoundError,
    RunStateError,
    RunWaitTimeout,
    StageNotFoundError,
    StageOutputMissing,
    StageSkipped,
    WorkflowNotFoundError,
)
from workflow_engine.events import EventType
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema

if TYPE_CHECKING:
    from collections.abc import Iterator


from tests.integration.pages import Page, Stamp, approval, begin_approval, check, finish, mark, pages, sometimes


@pytest.fixture
def runtime(database_url: str, silent: Any) -> Iterator[WorkflowRuntime]:
    settings = Settings(database_url=database_url, signing_key=SecretStr("k"))
    with WorkflowRuntime([pages, approval], settings=settings, dispatcher=silent) as runtime:
        yield runtime


def test_a_run_is_accepted_while_the_broker_loses_everything(runtime: WorkflowRuntime, silent: Any) -> None:
    run = runtime.create_run(pages, Page(number=1), priority=9, metadata={"user": "u-1"})

    snapshot = run.snapshot()
    assert (snapshot.status, snapshot.priority, snapshot.metadata) == (RunStatus.PENDING, 9, {"user": "u-1"})
    assert [(hint.run_id, hint.stage_id, hint.priority) for hint in silent.lost] == [(run.id, "check", 9)]
    assert runtime.get_input(run.id) == {"number": 1}
    assert runtime.get_config(run.id)["check"] == {"most": 100}


def test_a_workflow_is_named_by_itself_or_by_its_id(runtime: WorkflowRuntime) -> None:
    runs = [runtime.create_run(pages, {"number": 1}), runtime.create_run("pages", Page(number=1))]

    assert [run.snapshot().workflow_id for run in runs] == ["pages", "pages"]
    with pytest.raises(WorkflowNotFoundError, match="registered: approval, pages"):
        runtime.create_run("page")


def test_a_request_that_is_refused_leaves_nothing(runtime: WorkflowRuntime) -> None:
    with pytest.raises(InvalidDataError, match="number"):
        runtime.create_run("pages", {"number": "many"}, idempotency_key="k")
    with pytest.raises(InvalidDataError, match="most"):
        runtime.create_run(pages, Page(number=1), config={"check": {"most": "x"}}, idempotency_key="k")

    assert runtime.list_runs().items == ()
    assert runtime.create_run(pages, Page(number=1), idempotency_key="k").status is RunStatus.PENDING


def test_an_idempotency_key_stands_for_one_run(runtime: WorkflowRuntime) -> None:
    first = runtime.create_run(pages, Page(number=1), idempotency_key="doc-42")

    second = runtime.create_run(pages, Page(number=1), idempotency_key="doc-42")

    assert second.id == first.id
    with pytest.raises(IdempotencyConflictError):
        runtime.create_run(pages, Page(number=2), idempotency_key="doc-42")


def test_the_priority_of_a_workflow_is_its_own_or_the_default(runtime: WorkflowRuntime) -> None:
    assert (runtime.get_workflow_priority("approval"), runtime.get_workflow_priority("pages")) == (7, 5)
    with pytest.raises(WorkflowNotFoundError):
        runtime.get_workflow_priority("letters")


def test_waiting_returns_the_parsed_output(runtime: WorkflowRuntime) -> None:
    run = finish(runtime, 3)

    output = run.wait(timeout=timedelta(minutes=2))

    assert isinstance(output, GroupOutput)
    assert output[mark] == Stamp(number=3)
    assert list(output) == ["mark"]


def test_waiting_for_a_failed_run_raises_its_first_failure(runtime: WorkflowRuntime) -> None:
    run = finish(runtime, 101)

    with pytest.raises(RunFailed, match="page 101 is too long") as caught:
        run.wait()

    assert caught.value.run_id == run.id


def test_waiting_for_a_cancelled_run_says_so(runtime: WorkflowRuntime) -> None:
    run = runtime.create_run(pages, Page(number=1))

    snapshot = run.cancel(reason="not needed")

    assert snapshot.status is RunStatus.CANCELLED
    with pytest.raises(RunCancelled):
        run.wait()
    [cancelled] = [event for event in run.list_events() if event.type is EventType.RUN_CANCELLED]
    assert cancelled.payload == {"reason": "not needed"}


def test_waiting_ends_at_its_timeout_with_fewer_and_fewer_looks(clock: Any, silent: Any) -> None:
    with WorkflowRuntime(pages, database_url="sqlite://", dispatcher=silent, clock=clock) as runtime:
        run = runtime.create_run(pages, Page(number=1))

        with pytest.raises(RunWaitTimeout, match=r"is PENDING after 0:05:00; it goes on"):
            run.wait(timeout=timedelta(minutes=5))

    assert clock.elapsed == pytest.approx(timedelta(minutes=5), abs=timedelta(milliseconds=1))
    assert clock.sleeps[0] == timedelta(milliseconds=20)
    assert max(clock.sleeps) == timedelta(seconds=1)
    assert clock.sleeps[:-1] == sorted(clock.sleeps[:-1])


def test_an_unknown_run_is_an_error_or_none(runtime: WorkflowRuntime) -> None:
    assert runtime.find_run("no-such-run") is None
    for ask in (
        runtime.get_run,
        runtime.list_stages,
        runtime.list_logs,
        runtime.list_events,
        runtime.list_artifacts,
        runtime.list_annotations,
        runtime.get_output,
        runtime.get_input,
        runtime.cancel,
        runtime.pause,
        runtime.transition_workflow,
        lambda run_id: runtime.list_attempts(run_id, "check"),
        lambda run_id: runtime.get_stage_output(run_id, "check"),
        lambda run_id: runtime.annotate(run_id, "a", 1),
        lambda run_id: runtime.rerun(run_id, from_stage="check"),
        lambda run_id: runtime.create_log_context(run_id, "check"),
    ):
        with pytest.raises(RunNotFoundError, match="no-such-run"):
            ask("no-such-run")


def test_everything_that_a_run_left_can_be_read(runtime: WorkflowRuntime) -> None:
    run = finish(runtime, 4)

    assert [(s.stage_id, s.status) for s in run.list_stages()] == [
        ("check", StageStatus.COMPLETED),
        ("mark", StageStatus.COMPLETED),
        ("sometimes", StageStatus.SKIPPED),
    ]
    assert [attempt.attempt for attempt in runtime.list_attempts(run.id, check)] == [1]
    assert [(line.message, line.fields) for line in run.list_logs(check).items] == [("checked", {"number": 4})]
    assert run.list_logs(mark).items == ()
    assert [(a.stage_id, a.key) for a in run.list_artifacts()] == [(None, "all"), ("check", "pages/first")]
    assert (runtime.get_artifact(run.id, "pages/first", stage=check), runtime.get_artifact(run.id, "all")) == (4, [4])
    assert [(a.key, a.value, a.actor) for a in runtime.list_annotations(run.id)] == [("review.score", 3, "stage")]
    assert next(iter(run.list_events(after_sequence=2))).sequence == 3
    assert (run.snapshot().total_cost, run.snapshot().total_tokens) == (Decimal("0.25"), 7)
    with pytest.raises(ArtifactNotFoundError, match=r"Stage \"check\" of run .* has no artifact 'other'"):
        runtime.get_artifact(run.id, "other", stage=check)


def test_outputs_of_stages_are_parsed_and_missing_ones_explained(runtime: WorkflowRuntime) -> None:
    run = finish(runtime, 4)
    waiting = runtime.create_run(pages, Page(number=1))

    assert runtime.get_stage_output(run.id, mark) == runtime.get_stage_output(run.id, "mark") == Stamp(number=4)
    with pytest.raises(StageSkipped, match='"sometimes"'):
        runtime.get_stage_output(run.id, sometimes)
    with pytest.raises(StageNotFoundError, match='"marks" not found in workflow "pages"'):
        runtime.get_stage_output(run.id, "marks")
    with pytest.raises(StageOutputMissing, match="is PENDING"):
        runtime.get_stage_output(waiting.id, check)
    with pytest.raises(StageOutputMissing, match="has not begun"):
        runtime.get_stage_output(waiting.id, mark)
    with pytest.raises(RunStateError, match="is PENDING; it has no output yet"):
        waiting.output()


def test_outputs_of_workflows_that_are_not_known_here_are_plain(runtime: WorkflowRuntime, database_url: str) -> None:
    run = finish(runtime, 4)

    with WorkflowRuntime(database_url=database_url) as stranger:
        assert stranger.get_output(run.id) == {"mark": {"number": 4, "kind": "draft"}}
        assert stranger.get_stage_output(run.id, "check") == {"number": 4}


def test_a_run_whose_every_stage_was_skipped_has_its_input_as_output(runtime: WorkflowRuntime) -> None:
    workflow = WorkflowBuilder("skipped", input=Page).pipe(sometimes).build()
    executor = WorkflowExecutor(workflow, runtime=runtime)

    assert executor.execute(Page(number=2)) == Page(number=2)


def test_runs_are_listed_by_metadata_workflow_and_status(runtime: WorkflowRuntime) -> None:
    run = runtime.create_run(pages, Page(number=1), metadata={"user": "ada"})
    other = runtime.create_run(approval, Page(number=1))

    assert [r.id for r in runtime.list_runs().items] == [other.id, run.id]
    assert [r.id for r in runtime.list_runs(metadata={"user": "ada"}).items] == [run.id]
    assert [r.id for r in runtime.list_runs(workflow=approval, status=RunStatus.PENDING).items] == [other.id]
    assert runtime.list_runs(status=[RunStatus.COMPLETED, RunStatus.SUSPENDED]).items == ()


def test_a_run_that_waits_is_shown_suspended(runtime: WorkflowRuntime) -> None:
    run = begin_approval(runtime)

    assert run.status is RunStatus.SUSPENDED
    assert [r.id for r in runtime.list_runs(status=RunStatus.SUSPENDED).items] == [run.id]


def test_a_postgres_schema_is_never_made_by_itself(postgres_url: str) -> None:
    with WorkflowRuntime(pages, database_url=postgres_url) as runtime:
        with pytest.raises(MigrationRequiredError, match="workflow-engine db upgrade"):
            runtime.list_runs()

        database = Database(postgres_url)
        schema.upgrade(database)
        database.close()

        assert runtime.list_runs().items == ()


@pytest.mark.parametrize("before", ["list_runs()", "worker_id", "create_run('ticks')"])
def test_processes_that_are_forked_have_connections_of_their_own(database_url: str, before: str) -> None:
    script = f"""
import os, sys
from workflow_engine import NoInput, StageContext, WorkflowBuilder, WorkflowRuntime, stage

@stage
def tick(ctx: StageContext[NoInput]) -> int:
    return 1

ticks = WorkflowBuilder("ticks").pipe(tick).build()
runtime = WorkflowRuntime(ticks, database_url=sys.argv[1])
runtime.{before}
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        for _ in range(20):
            runtime.list_runs()
        for _ in range(3):
            runtime.create_run(ticks, idempotency_key=f"{{os.getpid()}}-{{_}}")
        os._exit(0 if f":{{os.getpid()}}:" in runtime.worker_id else 3)
    children.append(pid)
for _ in range(20):
    runtime.list_runs()
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print(codes, sum(run.idempotency_key is not None for run in runtime.list_runs().items))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script, database_url], capture_output=True, text=True, timeout=100, check=False
    )

    assert (finished.stdout.strip(), finished.returncode) == ("[0, 0, 0] 9", 0), finished.stderr
