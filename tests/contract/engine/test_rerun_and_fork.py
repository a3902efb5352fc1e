"""Going over a part of a run again: in the same run, or in a new one that shares the past."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, step
from workflow_engine.definition import (
    GroupOutput,
    Pending,
    Retry,
    Suspend,
    as_registry,
    define_async_batch_stage,
)
from workflow_engine.errors import (
    InvalidDataError,
    InvalidPriorityError,
    RerunRefusedError,
    RunStateError,
    StageNotFoundError,
)
from workflow_engine.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def polled(name: str, check: Callable[..., Any] = lambda ctx: ctx.state) -> Any:
    return define_async_batch_stage(
        id=name, execute=lambda _: Suspend(7), check=check, input=int, output=int, state=int
    )


class Count:
    """A body that counts its calls by stage and adds one."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, ctx: Any) -> int:
        self.calls.append(ctx.stage_id)
        return sum(ctx.input.values()) if isinstance(ctx.input, GroupOutput) else int(ctx.input) + 1

    def take(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


def diamond(body: Callable[..., Any]) -> Any:
    members = (step("b", body), step("c", body), step("d", body))
    return chain(step("a", body), members, step("e", body, takes=GroupOutput))


@pytest.mark.parametrize(
    ("from_stage", "only", "calls"),
    [
        ("a", False, ["a", "b", "c", "d", "e"]),
        ("c", False, ["b", "c", "d", "e"]),
        ("c", True, ["c", "e"]),
        ("e", False, ["e"]),
        ("e", True, ["e"]),
    ],
)
def test_a_rerun_executes_from_its_group_on(start: Start, from_stage: str, calls: list[str], *, only: bool) -> None:
    body = Count()
    workflow = diamond(body)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    body.take()

    tester.rerun(run.id, from_stage=from_stage, only=only)
    tester.run_until_idle()

    assert sorted(body.take()) == calls
    assert (run.output(), run.snapshot().generation) == (9, 1)
    rerun = next(event for event in run.list_events() if str(event.type) == "run.rerun")
    expected = {"a": ["a"], "e": ["e"], "c": ["c"] if only else ["b", "c", "d"]}[from_stage]
    assert (rerun.generation, rerun.payload["from_stages"]) == (1, expected)


def test_reruns_may_follow_each_other(start: Start) -> None:
    body = Count()
    workflow = diamond(body)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    for from_stage in ("e", "a", "d"):
        tester.rerun(run.id, from_stage=from_stage, only=True)
        tester.run_until_idle()

    assert (run.output(), run.snapshot().generation) == (9, 3)
    assert len([one for one in run.list_stages(history=True) if one.is_live]) == 5


def test_a_failed_run_is_rerun_from_where_it_failed(start: Start) -> None:
    broken = [True]

    def fragile(ctx: Any) -> int:
        if broken:
            raise ValueError
        return int(ctx.input) + 1

    once = Retry(max_attempts=1)
    workflow = chain(step("a"), (step("b"), step("c", fragile, retry=once)), step("d", lambda _: 1, takes=GroupOutput))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    failed = run.snapshot()
    broken.clear()

    tester.rerun(run.id, from_stage="c", only=True)
    tester.run_until_idle()

    after = run.snapshot()
    assert (failed.status, after.status) == (RunStatus.FAILED, RunStatus.COMPLETED)
    assert (after.error_code, after.error_message, after.failed_stage_id) == (None, None, None)


def test_a_suspended_stage_is_rerun_after_a_cancel(start: Start) -> None:
    workflow = chain(polled("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    run.cancel()

    tester.rerun(run.id, from_stage="a")
    tester.run_to_end(run)

    assert run.output() == 7
    assert [(one.generation, one.status.value) for one in run.list_stages(history=True)] == [
        (0, "CANCELLED"), (1, "COMPLETED"), (1, "COMPLETED"),
    ]  # fmt: skip


def test_a_live_run_is_not_rerun(start: Start) -> None:
    workflow = chain(polled("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    before = (run.snapshot(), run.list_stages(), run.list_events())

    with pytest.raises(RunStateError, match="only an ended run is rerun"):
        tester.rerun(run.id, from_stage="a")

    assert (run.snapshot(), run.list_stages(), run.list_events()) == before


def test_old_generations_are_never_mixed_into_the_context(start: Start) -> None:
    seen: list[Any] = []

    def look(ctx: Any) -> int:
        seen.append((ctx.generation, ctx.optional("b"), ctx.optional("c")))
        return int(ctx.input)

    workflow = chain(step("a", look), step("b"), step("c"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    tester.rerun(run.id, from_stage="a")
    tester.run_until_idle()

    assert seen == [(0, None, None), (1, None, None)]


def redefined(tester: WorkflowTester, *stages: Any) -> None:
    """Let the tester's worker know the workflow by another definition."""
    tester._registry = as_registry([chain(*stages)])
    tester._engine = tester.new_engine()


def test_a_changed_definition_counts_from_the_group_on(start: Start) -> None:
    workflow = chain(step("a"), step("b"), step("c"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    redefined(tester, step("a"), step("b2", lambda ctx: ctx.input * 10), step("new", lambda ctx: ctx.input + 1))

    tester.rerun(run.id, from_stage="b2")
    tester.run_until_idle()

    assert run.output() == 11
    assert [(one.stage_id, one.execution_group) for one in run.list_stages()] == [("a", 1), ("b2", 2), ("new", 3)]


def test_a_changed_definition_needs_its_earlier_groups(start: Start) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    before = (run.snapshot(), run.list_stages(history=True))
    redefined(tester, step("a"), step("new"), step("b"))

    with pytest.raises(RerunRefusedError, match=r"execution group 3 \(missing: new\)"):
        tester.rerun(run.id, from_stage="b")

    assert (run.snapshot(), run.list_stages(history=True)) == before


def test_stages_that_changed_their_group_are_missing_there(start: Start) -> None:
    workflow = chain((step("a"), step("b")), step("c", lambda _: 1, takes=GroupOutput))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    redefined(tester, step("a"), step("b"), step("c"))

    with pytest.raises(RerunRefusedError, match="missing: b"):
        tester.rerun(run.id, from_stage="c")
    tester.rerun(run.id, from_stage="b")
    tester.run_until_idle()

    assert run.output() == 1
    assert [(one.stage_id, one.execution_group) for one in run.list_stages()] == [("a", 1), ("b", 2), ("c", 3)]


def test_a_sibling_that_moved_to_a_later_group_is_executed_there(start: Start) -> None:
    workflow = chain((step("a"), step("b"), step("c")), step("d", lambda _: 1, takes=GroupOutput))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    redefined(tester, (step("a"), step("c")), step("b", lambda ctx: len(ctx.input), takes=GroupOutput), step("d"))

    tester.rerun(run.id, from_stage="a", only=True)
    tester.run_until_idle()

    assert run.output() == 2
    assert [(one.stage_id, one.generation) for one in run.list_stages()] == [("a", 1), ("c", 0), ("b", 1), ("d", 1)]


def test_a_rerun_gets_the_deadline_of_its_workflow_anew(start: Start) -> None:
    workflow = chain(step("a"), polled("b"), deadline=timedelta(hours=1))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    tester.advance(timedelta(hours=2))
    tester.run_until_idle()

    tester.rerun(run.id, from_stage="b")
    deadline: Any = run.snapshot().deadline_at
    given = deadline - tester.now()
    tester.run_to_end(run)

    assert timedelta(minutes=55) < given <= timedelta(hours=1)
    assert run.output() == 7


def test_a_fork_shares_the_past_and_has_a_future_of_its_own(start: Start) -> None:
    body = Count()
    workflow = diamond(body)
    tester = start(workflow)
    run = tester.create_run(workflow, 1, metadata={"customer": "x"}, idempotency_key="k")
    tester.run_until_idle()
    before = (run.snapshot(), run.list_stages(), run.list_events())
    body.take()

    fork = tester.fork(run.id, from_stage="e", priority=9)
    tester.run_until_idle()

    snapshot = fork.snapshot()
    assert body.take() == ["e"]
    assert (snapshot.forked_from, snapshot.priority, snapshot.metadata) == (run.id, 9, {"customer": "x"})
    assert (fork.output(), tester.get_stage_output(fork.id, "c")) == (9, 3)
    assert (run.snapshot(), run.list_stages(), run.list_events()) == before


def test_a_fork_of_a_live_run_and_of_a_fork(start: Start) -> None:
    workflow = chain(step("a", lambda ctx: ctx.input + 1), polled("b", lambda _: Pending()), step("c"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    fork = tester.fork(run.id, from_stage="b")
    again = tester.fork(fork.id, from_stage="b")
    tester.run_until_idle()
    for one in (fork, again):
        tester.complete_stage(one.id, "b", 5)
    tester.run_until_idle()

    assert [one.status.value for one in (run, fork, again)] == ["SUSPENDED", "COMPLETED", "COMPLETED"]
    assert tester.get_stage_output(again.id, "a") == 2


def test_forks_that_are_refused_write_nothing(start: Start) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    with pytest.raises(RerunRefusedError):
        tester.fork(run.id, from_stage="b")
    with pytest.raises(InvalidPriorityError):
        tester.fork(run.id, from_stage="a", priority=11)
    with pytest.raises(InvalidDataError):
        tester.fork(run.id, from_stage="a", config={"x": {}})
    with pytest.raises(StageNotFoundError):
        tester.fork(run.id, from_stage="x")

    assert len(tester.list_runs().items) == 1


def test_a_fork_leaves_out_what_the_definition_has_elsewhere_now(start: Start) -> None:
    workflow = chain((step("a"), step("b")), step("c", lambda _: 1, takes=GroupOutput))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    redefined(tester, step("a"), step("c"), step("b"))

    fork = tester.fork(run.id, from_stage="c")
    tester.run_until_idle()

    assert fork.output() == 1
    assert [(one.stage_id, one.execution_group) for one in fork.list_stages()] == [("a", 1), ("c", 2), ("b", 3)]
