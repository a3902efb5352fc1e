"""Stages that are skipped, and stages that wait for runs of their own."""

from __future__ import annotations

import importlib
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine.definition import (
    GroupOutput,
    Pending,
    Retry,
    Suspend,
    define_async_batch_stage,
    define_stage,
)
from workflow_engine.errors import StageSkipped
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.lifecycle import RunStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def skipped(name: str, **options: Any) -> Any:
    return step(name, lambda _: pytest.fail("a skipped stage was entered"), skip_if=lambda _: True, **options)


def test_a_skipped_stage_passes_its_input_on(start: Start) -> None:
    workflow = chain(step("a", lambda ctx: ctx.input + 1), skipped("b"), step("c", lambda ctx: ctx.input * 10))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    assert (stage_of(run, "b").status, run.output()) == (StageStatus.SKIPPED, 20)


def test_a_skipped_member_is_left_out_of_the_group(start: Start) -> None:
    seen: dict[str, Any] = {}

    def look(ctx: Any) -> int:
        seen.update(there="b" in ctx.input, got=ctx.input.get("b"), all=dict(ctx.input), optional=ctx.optional("b"))
        ways: list[Callable[[], Any]] = [lambda: ctx.input["b"], lambda: ctx.require("b")]
        for way in ways:
            with pytest.raises(StageSkipped):
                way()
        return 1

    workflow = chain((step("a"), skipped("b")), step("c", look, takes=GroupOutput))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    assert run.output() == 1
    assert seen == {"there": False, "got": None, "all": {"a": 1}, "optional": None}


def test_a_group_that_is_skipped_whole_is_empty_to_who_takes_a_group(start: Start) -> None:
    def look(ctx: Any) -> list[Any]:
        return [len(ctx.input), ctx.input.get("b")]

    workflow = chain((skipped("a"), skipped("b")), step("c", look, takes=GroupOutput))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    assert run.output() == [0, None]


def test_what_requires_a_skipped_stage_fails_at_once(start: Start) -> None:
    workflow = chain(skipped("a"), step("b", lambda ctx: ctx.require("a"), dependencies=["a"]))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    failed = stage_of(run, "b")
    assert (failed.error.code, failed.attempt) == ("STAGE_SKIPPED", 1)


def test_a_run_whose_every_stage_is_skipped_gives_its_input(start: Start) -> None:
    workflow = chain(skipped("a"), (skipped("b"), skipped("c")))
    tester = start(workflow)

    run = tester.create_run(workflow, 42)
    tester.run_until_idle()

    assert (run.status, run.output()) == (RunStatus.COMPLETED, 42)


def test_skip_if_sees_input_config_and_earlier_outputs_and_may_change_its_mind_in_a_rerun(start: Start) -> None:
    def decide(ctx: Any) -> bool:
        return bool(ctx.generation == 0 and ctx.input == 2 and ctx.require("a") == 2)

    workflow = chain(step("a", lambda ctx: ctx.input + 1), step("b", lambda ctx: ctx.input * 10, skip_if=decide))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    first = run.output()

    tester.rerun(run.id, from_stage="b")
    tester.run_until_idle()

    assert (first, run.output()) == (2, 20)


def test_a_skip_if_that_raises_is_tried_again(start: Start) -> None:
    def decide(ctx: Any) -> bool:
        if ctx.attempt == 1:
            raise ConnectionError
        return True

    workflow = chain(step("a", skip_if=decide))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    assert (stage_of(run, "a").status, stage_of(run, "a").attempt) == (StageStatus.SKIPPED, 2)


def test_a_skip_if_that_hangs_is_within_the_time_limit_of_its_stage(start: Start) -> None:
    forever = threading.Event()

    def hangs(_: Any) -> bool:
        return forever.wait(5)

    stage = define_stage(
        id="a",
        execute=lambda _: 1,
        input=int,
        output=int,
        skip_if=hangs,
        timeout=timedelta(seconds=0.2),
        retry=Retry(max_attempts=1),
    )
    tester = start(chain(stage))
    run = tester.create_run("chain", 1)

    tester.deliver()

    forever.set()
    assert (run.status, run.list_stages()[0].error.code) == (RunStatus.FAILED, "TIMEOUT")


def test_a_rerun_after_skipped_stages_finds_the_nearest_output(start: Start) -> None:
    workflow = chain(step("a", lambda ctx: ctx.input + 1), skipped("b"), step("c", lambda ctx: ctx.input * 10))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    tester.rerun(run.id, from_stage="c")
    fork = tester.fork(run.id, from_stage="c")
    tester.run_until_idle()

    assert (run.output(), fork.output()) == (20, 20)


CHILD = chain(step("work", lambda ctx: ctx.input * 2), name="child")
STUCK = chain(step("work", lambda _: (_ for _ in ()).throw(ValueError("no")), retry=Retry(1)), name="stuck")


def parent(child: Any, *values: int, **options: Any) -> Any:
    def body(ctx: Any) -> Any:
        tester = TESTER[0]
        ids = [
            tester.create_run(child, value, parent_run_id=ctx.run_id, parent_stage_run_id=ctx.stage_run_id).id
            for value in values
        ]
        return Suspend.until_runs(*ids)

    waits = define_stage(id="waits", execute=body, input=int, output=dict[str, int], **options)
    return chain(waits, step("after", lambda ctx: sorted(ctx.input.values()), takes=dict[str, int]), name="parent")


#: The tester of the present test, for bodies of workflows that are made before it is.
TESTER: list[Any] = []


def begin_family(start: Start, workflow: Any, *others: Any) -> tuple[WorkflowTester, RunHandle[Any]]:
    tester = start(workflow, CHILD, STUCK, *others)
    TESTER[:] = [tester]
    return tester, tester.create_run(workflow, 1)


def test_a_stage_waits_for_runs_and_is_woken_by_the_last_one(start: Start) -> None:
    tester, run = begin_family(start, parent(CHILD, 5, 7))

    tester.run_until_idle()  # no time passes: nobody waits for a poll

    assert run.output() == [10, 14]
    children = tester.list_runs(parent=run.id).items
    assert [child.status for child in children] == [RunStatus.COMPLETED] * 2


def test_children_that_end_before_the_stage_has_suspended_are_noticed(start: Start) -> None:
    def body(ctx: Any) -> Any:
        child = tester.create_run(CHILD, 5, parent_run_id=ctx.run_id, parent_stage_run_id=ctx.stage_run_id)
        tester.run_until_idle()
        return Suspend.until_runs(child)

    workflow = chain(define_stage(id="waits", execute=body, input=int, output=dict[str, int]), name="parent")
    tester, run = begin_family(start, workflow)

    tester.run_until_idle()

    assert list(run.output().values()) == [10]


def test_a_child_that_fails_fails_the_stage_that_waits(start: Start) -> None:
    tester, run = begin_family(start, parent(STUCK, 5))

    for _ in range(4):
        tester.run_until_idle()
        tester.advance(timedelta(seconds=10))

    assert run.status is RunStatus.FAILED
    assert "is FAILED: no" in stage_of(run, "waits").error.message


def test_a_run_that_does_not_exist_fails_the_stage_that_waits_for_it(start: Start) -> None:
    def wait(_: Any) -> Any:
        return Suspend.until_runs("nobody")

    waits = define_stage(id="waits", execute=wait, input=int, output=dict[str, int])
    tester, run = begin_family(start, chain(waits, name="parent"))

    tester.run_to_end(run)

    assert "nobody" in stage_of(run, "waits").error.message


def test_a_cancel_goes_down_to_the_last_generation(start: Start) -> None:
    still = define_async_batch_stage(
        id="still", execute=lambda _: Suspend(1), check=lambda _: Pending(), input=int, output=int, state=int
    )
    leaf = chain(still, name="leaf")
    middle = parent(leaf, 1, 2)
    middle = chain(*(one for group in middle.groups for one in group.stages), name="middle")
    tester, run = begin_family(start, parent(middle, 3), middle, leaf)
    tester.run_until_idle()

    run.cancel()

    everyone = tester.list_runs().items
    assert [one.status for one in everyone] == [RunStatus.CANCELLED] * 4
    tester.run_until_idle()
    tester.assert_consistent(final=True)


def test_a_cancel_that_was_interrupted_before_the_children_goes_on_in_the_sweep(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = define_async_batch_stage(
        id="still", execute=lambda _: Suspend(1), check=lambda _: Pending(), input=int, output=int, state=int
    )
    leaf = chain(still, name="leaf")
    tester, run = begin_family(start, parent(leaf, 1), leaf)
    tester.run_until_idle()
    with monkeypatch.context() as patch:
        # The package exports a function of the module's name.
        patch.setattr(
            importlib.import_module("workflow_engine.engine.commands.cancel_run"), "cancel_orphans", lambda _: 0
        )
        run.cancel()
    [child] = tester.list_runs(parent=run.id).items
    before = child.status

    report = tester.sweep()

    assert (before, tester.get_snapshot(child.id).status) == (RunStatus.SUSPENDED, RunStatus.CANCELLED)
    assert report.repaired["orphans_cancelled"] == 1
