"""Runs that a stage creates: one for each key, however often the stage is executed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain
from workflow_engine.arguments import LONGEST_IDEMPOTENCY_KEY
from workflow_engine.definition import (
    Pending,
    Retry,
    Suspend,
    define_async_batch_stage,
    define_stage,
)
from workflow_engine.definition.contexts.children import derive_key
from workflow_engine.engine import reap_worker
from workflow_engine.errors import InvalidDataError
from workflow_engine.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.facade.run_handle import RunHandle
    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


CHILD = chain(define_stage(id="work", execute=lambda ctx: ctx.input * 2, input=int, output=int), name="child")


def family(start: Start, body: Callable[[Any], Any], **options: Any) -> tuple[WorkflowTester, RunHandle[Any]]:
    """Start a run whose only stage is ``body``."""
    parent = chain(define_stage(id="waits", execute=body, input=int, output=Any, **options), name="parent")
    tester = start(parent, CHILD)
    return tester, tester.create_run(parent, 1)


def children_of(tester: WorkflowTester, run: RunHandle[Any]) -> list[Any]:
    return list(tester.list_runs(parent=run.id).items)


@pytest.mark.parametrize("accident", ["raises", "dies"])
def test_a_body_that_is_executed_again_finds_the_child_that_it_had_created(start: Start, accident: str) -> None:
    seen: list[bool] = []

    def body(ctx: Any) -> Any:
        child = ctx.create_run(CHILD, 5)
        seen.append(child.is_new)
        if ctx.attempt == 1 and accident == "raises":
            raise ConnectionError
        if ctx.attempt == 1:
            reap_worker(tester.engine, tester.engine.worker_id)
        return Suspend.until_runs(child)

    tester, run = family(start, body)

    tester.run_to_end(run)

    [child] = children_of(tester, run)
    assert run.output() == {child.id: 10}
    assert seen == [True, False]


def test_children_of_one_workflow_are_told_apart_by_their_keys(start: Start) -> None:
    def body(ctx: Any) -> Any:
        children = [ctx.create_run("child", number, key=f"document-{number}") for number in (3, 4, 3)]
        if ctx.attempt == 1:
            raise ConnectionError
        return Suspend.until_runs(*{child.id: child for child in children}.values())

    tester, run = family(start, body)

    tester.run_to_end(run)

    assert sorted(run.output().values()) == [6, 8]
    assert len(children_of(tester, run)) == 2


def test_a_second_child_without_a_key_is_refused_at_once(start: Start) -> None:
    def body(ctx: Any) -> Any:
        return [ctx.create_run(CHILD, number).id for number in (3, 4)]

    tester, run = family(start, body)

    tester.run_until_idle()

    found = run.snapshot()
    assert (found.status, found.error_code) == (RunStatus.FAILED, "INVALID_DATA")
    assert 'workflow "child" has a run already: give each a key' in str(found.error_message)


def test_a_child_that_an_earlier_execution_created_with_another_input_is_no_silent_match(start: Start) -> None:
    def body(ctx: Any) -> Any:
        ctx.create_run(CHILD, ctx.attempt)
        raise ConnectionError

    tester, run = family(start, body, retry=Retry(2))

    tester.run_to_end(run)

    assert "has another workflow, input or config" in str(run.snapshot().error_message)
    assert len(children_of(tester, run)) == 1


def test_a_rerun_of_the_stage_creates_new_children(start: Start) -> None:
    tester, run = family(start, lambda ctx: Suspend.until_runs(ctx.create_run(CHILD, 5)))
    tester.run_to_end(run)
    first = set(run.output())

    tester.rerun(run.id, from_stage="waits")
    tester.run_to_end(run)

    assert set(run.output()).isdisjoint(first)
    assert len(children_of(tester, run)) == 2


def test_children_are_cancelled_with_their_parent(start: Start) -> None:
    tester, run = family(
        start, lambda ctx: Suspend.until_runs(ctx.create_run(CHILD, 5, start_after=tester.now() + timedelta(days=1)))
    )
    tester.deliver()

    run.cancel()
    tester.run_until_idle()

    assert [child.status for child in children_of(tester, run)] == [RunStatus.CANCELLED]


def test_a_poll_may_create_a_run_and_the_next_poll_finds_it(start: Start) -> None:
    def check(ctx: Any) -> Any:
        child = ctx.create_run(CHILD, 5, priority=9)
        return Pending() if ctx.polls < 2 else child.id

    stage = define_async_batch_stage(
        id="waits", execute=lambda _: Suspend(1), check=check, input=int, output=str, state=int
    )
    parent = chain(stage, name="parent")
    tester = start(parent, CHILD)
    run = tester.create_run(parent, 1)

    tester.run_to_end(run)

    [child] = children_of(tester, run)
    assert (run.output(), child.priority) == (child.id, 9)


@pytest.mark.parametrize("key", ["", 7, b"x"])
def test_a_key_that_is_no_text_is_refused(key: Any) -> None:
    with pytest.raises(InvalidDataError, match="key"):
        derive_key("run:0:stage", "child", key)


def test_keys_of_any_length_and_any_characters_are_keys() -> None:
    keys = [derive_key("run:0:stage", "child", key) for key in ("k" * 300, "k" * 301, "a\x00b", "a\ud800b", "a", "é")]

    assert len(set(keys)) == len(keys)
    assert all(len(key) <= LONGEST_IDEMPOTENCY_KEY for key in keys)
    assert keys[4] == "run:0:stage/child/a"
