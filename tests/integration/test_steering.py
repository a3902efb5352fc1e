"""Steering runs through the facade, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from workflow_engine import (
    RunStatus,
    Settings,
    WorkflowExecutor,
    WorkflowRuntime,
)
from workflow_engine.errors import (
    IdempotencyConflictError,
    InvalidDataError,
    InvalidRequestError,
    RerunRefusedError,
    RunFailed,
    RunStateError,
    StageNotFoundError,
)
from workflow_engine.store.reads import run_queries as queries

if TYPE_CHECKING:
    from collections.abc import Iterator


from tests.integration.pages import (
    SCORE,
    Page,
    Stamp,
    approval,
    approve,
    begin_approval,
    check,
    finish,
    mark,
    pages,
)


@pytest.fixture
def runtime(database_url: str, silent: Any) -> Iterator[WorkflowRuntime]:
    settings = Settings(database_url=database_url, signing_key=SecretStr("k"))
    with WorkflowRuntime([pages, approval], settings=settings, dispatcher=silent) as runtime:
        yield runtime


def test_the_outcome_of_a_waiting_stage_can_be_reported(runtime: WorkflowRuntime) -> None:
    good, bad = begin_approval(runtime), begin_approval(runtime)

    assert runtime.complete_stage(good.id, approve, Stamp(number=1, kind="final")) is True
    assert runtime.complete_stage(good.id, approve, Stamp(number=2)) is False
    assert runtime.fail_stage(bad.id, "approve", "refused") is True

    assert good.output() == Stamp(number=1, kind="final")
    with pytest.raises(RunFailed, match="refused"):
        bad.output()


def test_a_token_reports_the_outcome_of_one_stage_run(runtime: WorkflowRuntime) -> None:
    good, bad = begin_approval(runtime), begin_approval(runtime)
    token, other = runtime.callback_token(good.id, approve), runtime.callback_token(bad.id, approve)

    with pytest.raises(InvalidRequestError, match="not valid"):
        runtime.complete_by_token(token.replace(token[0], "f" if token[0] != "f" else "0", 1), Stamp(number=1))
    assert runtime.complete_by_token(token, {"number": 5}) is True
    assert runtime.fail_by_token(other, "refused") is True

    assert good.output() == Stamp(number=5)
    assert bad.status is RunStatus.FAILED
    with pytest.raises(StageNotFoundError):
        runtime.callback_token(good.id, "check")


def test_a_failed_run_is_rerun_by_its_handle(runtime: WorkflowRuntime) -> None:
    run = finish(runtime, 4)

    same = run.rerun(from_stage=mark, only=True)

    assert same.id == run.id
    assert (run.status, run.snapshot().generation) == (RunStatus.RUNNING, 1)
    with pytest.raises(RunStateError):
        runtime.rerun(run.id, from_stage=mark)


def test_a_handle_completes_or_fails_a_waiting_stage_of_its_run(runtime: WorkflowRuntime) -> None:
    good, bad, other = begin_approval(runtime), begin_approval(runtime), begin_approval(runtime)

    assert good.complete_stage(approve, Stamp(number=1)) is True
    assert bad.fail_stage("approve", "refused") is True
    assert runtime.complete_by_token(other.callback_token(approve, valid_for=timedelta(hours=1)), {"number": 2}) is True

    assert (good.output(), other.output()) == (Stamp(number=1), Stamp(number=2))
    assert bad.snapshot().error_code == "REPORTED"


def test_a_handle_pauses_resumes_annotates_and_forks_its_run(runtime: WorkflowRuntime) -> None:
    waiting, done = runtime.create_run(pages, Page(number=1)), finish(runtime, 3)

    waiting.pause()
    was_paused = waiting.snapshot().paused
    waiting.resume()
    note = done.annotate(SCORE, 5, actor="ada", idempotency_key="k")
    fork = done.fork(from_stage=mark, priority=9)

    assert (was_paused, waiting.snapshot().paused) == (True, False)
    assert (done.annotate(SCORE, 5, actor="ada", idempotency_key="k").id, note.value, note.actor) == (note.id, 5, "ada")
    assert (fork.snapshot().forked_from, fork.snapshot().priority) == (done.id, 9)


def test_all_failed_runs_are_rerun_from_the_stage_that_failed(
    runtime: WorkflowRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_PAGE", 1)
    failed = [finish(runtime, 101).id, finish(runtime, 102).id]
    good, cancelled = finish(runtime, 1), runtime.create_run(pages, Page(number=1))
    cancelled.cancel()
    later = datetime.now(UTC) + timedelta(hours=1)  # noqa: TID251 - the database's clock, roughly

    dry = runtime.rerun_all(dry_run=True)
    none = runtime.rerun_all(since=later)
    refused = runtime.rerun_all(RunStatus.COMPLETED, from_stage="no-such-stage")
    done = runtime.rerun_all([RunStatus.FAILED, RunStatus.CANCELLED], workflow=pages)

    assert (dry.run_ids, dry.refused, none.run_ids) == (tuple(reversed(failed)), {}, ())
    assert list(refused.refused) == [good.id]
    assert set(done.run_ids) == {*failed, cancelled.id}
    assert [runtime.get_run(run_id).snapshot().generation for run_id in done.run_ids] == [1, 1, 1]
    assert good.status is RunStatus.COMPLETED


def test_a_fork_shares_the_outputs_and_has_its_own_config(runtime: WorkflowRuntime) -> None:
    run = finish(runtime, 4)

    fork = runtime.fork(run.id, from_stage=mark, config={"check": {"most": 5}}, priority=1)
    WorkflowExecutor(pages, fork.id, runtime=runtime).execute()

    assert fork.snapshot().forked_from == run.id
    assert fork.output()[mark] == Stamp(number=4)
    assert runtime.get_config(fork.id)["check"] == {"most": 5}
    assert runtime.get_config(run.id)["check"] == {"most": 100}
    with pytest.raises(RerunRefusedError):
        runtime.fork(runtime.create_run(pages, Page(number=1)).id, from_stage=mark)


def test_a_paused_run_is_held_until_it_is_resumed(runtime: WorkflowRuntime, silent: Any) -> None:
    run = runtime.create_run(pages, Page(number=1))
    runtime.pause(run.id)
    silent.lost.clear()

    assert run.snapshot().paused
    assert runtime.transition_workflow(run.id) is RunStatus.PENDING
    assert silent.lost == []
    runtime.resume(run.id)
    assert not run.snapshot().paused
    assert [hint.run_id for hint in silent.lost] == [run.id]


def test_a_paused_workflow_holds_all_its_runs(runtime: WorkflowRuntime, silent: Any) -> None:
    runtime.pause_workflow(pages)
    run = runtime.create_run(pages, Page(number=1))
    silent.lost.clear()

    assert run.snapshot().workflow_paused
    assert runtime.resume_workflow("pages") == 1
    assert not run.snapshot().workflow_paused
    assert [hint.run_id for hint in silent.lost] == [run.id]


def test_a_run_is_sent_again_by_hand(runtime: WorkflowRuntime, silent: Any) -> None:
    run = runtime.create_run(pages, Page(number=1))

    assert runtime.transition_workflow(run.id) is RunStatus.PENDING
    assert [hint.dispatch_number for hint in silent.lost] == [1, 2]


def test_due_polls_are_sent_once(runtime: WorkflowRuntime, silent: Any) -> None:
    run = begin_approval(runtime)
    assert runtime.poll_suspended_stages() == 0

    runtime.database.transact(
        lambda tx: tx.exec_driver_sql("UPDATE workflow_stages SET next_poll_at = dispatched_at + 1")
    )
    silent.lost.clear()

    assert (runtime.poll_suspended_stages(), runtime.poll_suspended_stages()) == (1, 0)
    assert [hint.run_id for hint in silent.lost] == [run.id]


def test_a_sweep_by_hand_is_never_skipped(runtime: WorkflowRuntime) -> None:
    assert [runtime.sweep().skipped, runtime.sweep().skipped] == [False, False]
    assert [runtime.sweep(force=False).skipped, runtime.sweep(force=False).skipped] == [False, True]


def test_ended_runs_are_pruned_and_live_ones_are_not(runtime: WorkflowRuntime) -> None:
    ended, live = finish(runtime), runtime.create_run(pages, Page(number=1))

    counted = runtime.prune(timedelta(0), dry_run=True)
    spared = runtime.prune(timedelta(days=1)), runtime.prune(timedelta(0), ["FAILED"])
    deleted = runtime.prune(timedelta(0), [RunStatus.COMPLETED])

    assert (counted, spared, deleted) == (1, (0, 0), 1)
    assert (runtime.find_run(ended.id), live.status) == (None, RunStatus.PENDING)
    with pytest.raises(InvalidRequestError, match="not PENDING"):
        runtime.prune(timedelta(0), [RunStatus.PENDING])


def test_annotations_from_outside_are_checked(runtime: WorkflowRuntime) -> None:
    run = runtime.create_run(pages, Page(number=1))

    added = runtime.annotate(run.id, SCORE, 5, actor="ada", idempotency_key="vote-1")
    runtime.annotate(run.id, "note", {"text": "\x00"})

    assert runtime.annotate(run.id, SCORE, 5, actor="ada", idempotency_key="vote-1") == added
    assert [entry.value for entry in runtime.list_annotations(run.id)] == [5, {"text": "\x00"}]
    assert [entry.key for entry in runtime.list_annotations(run.id, prefix="review", actor="ada")] == ["review.score"]
    with pytest.raises(IdempotencyConflictError):
        runtime.annotate(run.id, SCORE, 6, actor="ada", idempotency_key="vote-1")
    with pytest.raises(InvalidDataError):
        runtime.annotate(run.id, SCORE, "high")
    for actor in ("", "x" * 201, "a\x00"):
        with pytest.raises(InvalidDataError, match="actor"):
            runtime.annotate(run.id, "note", 1, actor=actor)
    with pytest.raises(InvalidDataError, match="idempotency_key"):
        runtime.annotate(run.id, "note", 1, idempotency_key="")


def test_lines_from_outside_a_stage_are_stored_with_it_and_redacted(runtime: WorkflowRuntime) -> None:
    run = runtime.create_run(pages, Page(number=1))
    log = runtime.create_log_context(run.id, check)

    log.warning("provider answered", api_key="sk-1", status=429)
    log.info("again")

    lines = run.list_logs("check").items
    assert [(line.level, line.message) for line in lines] == [("warning", "provider answered"), ("info", "again")]
    assert lines[0].fields == {"api_key": "[redacted]", "status": 429}
    with pytest.raises(StageNotFoundError):
        runtime.create_log_context(run.id, mark)
