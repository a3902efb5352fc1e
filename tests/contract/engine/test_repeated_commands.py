"""Commands that make work, asked for again: under an idempotency key, or in view of one generation."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from tests.contract.engine.stages import step
from workflow_engine.definition import Pending, Retry, Suspend, WorkflowBuilder, define_async_batch_stage
from workflow_engine.errors import IdempotencyConflictError, RunStateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def waiting(name: str) -> Any:
    return define_async_batch_stage(
        id=name, execute=lambda _: Suspend(7), check=lambda _: Pending(), input=int, output=int, state=int
    )


def finished(start: Start, *stages: Any) -> tuple[WorkflowTester, Any]:
    builder: Any = WorkflowBuilder("chain", input=int)
    for one in stages:
        builder = builder.pipe(one)
    workflow = builder.build()
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    return tester, run


def test_a_rerun_that_is_asked_for_again_under_its_key_happens_once(start: Start) -> None:
    tester, run = finished(start, step("a"), step("b"))

    tester.rerun(run.id, from_stage="b", idempotency_key="k")
    run.rerun(from_stage="b", idempotency_key="k")
    tester.run_until_idle()
    tester.rerun(run.id, from_stage="b", idempotency_key="k")
    after_the_same = run.snapshot().generation
    run.rerun(from_stage="b", idempotency_key="k2")

    assert (after_the_same, run.snapshot().generation) == (1, 2)


@pytest.mark.parametrize("other", [{"from_stage": "a"}, {"from_stage": "b", "only": True}])
def test_a_key_of_a_rerun_stands_for_one_request(start: Start, other: dict[str, Any]) -> None:
    tester, run = finished(start, step("a"), step("b"))
    tester.rerun(run.id, from_stage="b", idempotency_key="k")
    tester.run_until_idle()

    with pytest.raises(IdempotencyConflictError, match="'k' stands for generation 1"):
        tester.rerun(run.id, idempotency_key="k", **other)

    assert run.snapshot().generation == 1


def test_a_key_of_a_rerun_belongs_to_its_run(start: Start) -> None:
    tester, first = finished(start, step("a"))
    second = tester.create_run("chain", 1)
    tester.run_until_idle()

    for run in (first, second):
        tester.rerun(run.id, from_stage="a", idempotency_key="k")

    assert [run.snapshot().generation for run in (first, second)] == [1, 1]


@pytest.mark.parametrize("command", ["rerun", "fork"])
def test_what_is_asked_for_in_view_of_another_generation_is_refused(start: Start, command: str) -> None:
    tester, run = finished(start, step("a"), step("b"))
    tester.rerun(run.id, from_stage="b", expected_generation=0)
    tester.run_until_idle()

    with pytest.raises(RunStateError, match=r"generation 1.*for generation 0"):
        getattr(tester, command)(run.id, from_stage="b", expected_generation=0)
    getattr(tester, command)(run.id, from_stage="b", expected_generation=1)

    assert len(tester.list_runs().items) == (2 if command == "fork" else 1)


def test_all_are_rerun_once_under_a_key_also_those_that_failed_again(start: Start) -> None:
    def fails(_: Any) -> int:
        raise ValueError

    tester, run = finished(start, step("a"), step("b", fails, retry=Retry(max_attempts=1)))
    generations = []

    for key in ("k", "k", "k2"):
        told = tester.rerun_all(idempotency_key=key)
        tester.run_until_idle()
        generations.append((told.run_ids, run.snapshot().generation))

    assert generations == [((run.id,), 1), ((run.id,), 1), ((run.id,), 2)]


def test_a_run_that_was_rerun_while_all_were_is_refused(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> int:
        raise ValueError

    tester, run = finished(start, step("a"), step("b", fails, retry=Retry(max_attempts=1)))
    original = tester.list_runs

    def list_runs(**wanted: Any) -> Any:
        page = original(**wanted)
        tester.rerun(run.id, from_stage="b")
        tester.run_until_idle()
        return page

    monkeypatch.setattr(tester, "list_runs", list_runs)

    told = tester.rerun_all()

    assert (told.run_ids, list(told.refused)) == ((), [run.id])


def test_a_fork_that_is_asked_for_again_under_its_key_is_one_run(start: Start) -> None:
    tester, run = finished(start, step("a"), step("b"))

    first = tester.fork(run.id, from_stage="b", idempotency_key="k")
    run.rerun(from_stage="a")
    tester.run_until_idle()
    second = tester.fork(run.id, from_stage="b", config={}, idempotency_key="k")

    found: Any = tester.find_run(idempotency_key="k")
    assert first.id == second.id == found.id
    assert len(tester.list_runs().items) == 2


def test_a_fork_is_found_under_its_key_when_the_run_that_it_came_from_is_gone(start: Start) -> None:
    tester, run = finished(start, step("a"), waiting("b"))
    fork = tester.fork(run.id, from_stage="b", idempotency_key="k")
    run.cancel()
    tester.run_until_idle()  # its clean-up
    tester.advance(timedelta(seconds=1))
    tester.prune(timedelta(0), ["CANCELLED"])

    again = tester.fork(run.id, from_stage="b", idempotency_key="k")

    assert (tester.find_run(run.id), again.id) == (None, fork.id)


class Sign(BaseModel):
    sign: str = "!"


@pytest.mark.parametrize(
    "other", [{"from_stage": "a"}, {"from_stage": "b", "config": {"b": {"sign": "?"}}}, {"run": "other"}]
)
def test_a_key_of_a_fork_stands_for_one_request(start: Start, other: dict[str, Any]) -> None:
    tester, run = finished(start, step("a"), step("b", config=Sign))
    another = tester.create_run("chain", 1)
    tester.run_until_idle()
    tester.fork(run.id, from_stage="b", idempotency_key="k")
    asked: dict[str, Any] = {"from_stage": "b", **other}
    run_id = another.id if asked.pop("run", None) else run.id

    with pytest.raises(IdempotencyConflictError, match="'k' stands for run"):
        tester.fork(run_id, idempotency_key="k", **asked)

    assert len(tester.list_runs().items) == 3


def test_keys_of_forks_and_of_created_runs_are_the_same_keys(start: Start) -> None:
    tester, run = finished(start, step("a"), step("b"))
    tester.fork(run.id, from_stage="b", idempotency_key="fork")
    created = tester.create_run("chain", 1, idempotency_key="create")

    with pytest.raises(IdempotencyConflictError):
        tester.create_run("chain", 1, idempotency_key="fork")
    with pytest.raises(IdempotencyConflictError):
        tester.fork(run.id, from_stage="b", idempotency_key="create")

    found: Any = tester.find_run(idempotency_key="create")
    assert found.id == created.id
    assert tester.find_run(idempotency_key="none") is None
