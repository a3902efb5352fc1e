"""Clean-ups that a cancelled stage owes are sent with measure, to any worker that knows the stage, and are kept until they are done."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.contract.engine.stages import chain
from workflow_engine import engine as commands
from workflow_engine.definition import Pending, Suspend, define_async_batch_stage, define_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.facade.run_handle import RunHandle
    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def polled(on_cancel: Callable[[Any], None], **options: Any) -> Any:
    return define_async_batch_stage(
        id="polled",
        execute=lambda _: Suspend(7),
        check=lambda _: Pending(),
        input=int,
        output=int,
        state=int,
        on_cancel=on_cancel,
        **options,
    )


def cancelled_while_suspended(tester: WorkflowTester, workflow: Any) -> RunHandle[Any]:
    run = tester.create_run(workflow, 1)
    tester.deliver(tester.messages.waiting[-1])
    run.cancel()
    return run


def test_owed_clean_ups_that_nobody_takes_do_not_fill_the_queue(start: Start) -> None:
    workflow = chain(polled(lambda _: None))
    tester = start(workflow)
    cancelled_while_suspended(tester, workflow)

    for _ in range(12):  # a minute of sweeps; the worker is busy with what was sent before
        tester.advance(timedelta(seconds=5))
        tester.sweep()

    assert 2 <= len(tester.messages.waiting) <= 4


def test_owed_clean_ups_of_a_dead_queue_do_not_hold_up_others(start: Start) -> None:
    calls: list[int] = []
    dead, alive = (
        chain(polled(lambda ctx: calls.append(ctx.state), queue=queue), name=queue) for queue in ("dead", "alive")
    )
    tester = start(dead, alive, sweep_batch=2)
    for _ in range(2):
        cancelled_while_suspended(tester, dead)
    tester.advance(timedelta(seconds=1))
    cancelled_while_suspended(tester, alive)
    tester.messages.waiting.clear()

    for _ in range(4):
        tester.advance(timedelta(seconds=30))
        tester.sweep()
        for hint in [hint for hint in tester.messages.waiting if hint.queue == "alive"]:
            tester.deliver(hint)

    assert calls == [7]


def test_a_run_that_owes_a_clean_up_is_not_pruned(start: Start) -> None:
    calls: list[int] = []
    workflow = chain(polled(lambda ctx: calls.append(ctx.state)))
    tester = start(workflow)
    cancelled_while_suspended(tester, workflow)
    tester.advance(timedelta(days=1))

    early = commands.prune(tester.engine, older_than=timedelta(hours=1))
    tester.run_until_idle()
    late = commands.prune(tester.engine, older_than=timedelta(hours=1))

    assert (early, calls, late) == (0, [7], 1)


def test_a_worker_that_has_not_the_stage_leaves_its_clean_up_to_another(start: Start) -> None:
    calls: list[int] = []
    waits = define_async_batch_stage(
        id="waits",
        execute=lambda _: Suspend(7),
        check=lambda _: Pending(),
        input=int,
        output=int,
        state=int,
        on_cancel=lambda ctx: calls.append(ctx.state),
    )
    workflow = chain(waits)
    tester = start(workflow)
    newer = tester.new_engine([chain(define_stage(id="other", execute=lambda _: 1, input=int, output=int))])
    run = tester.create_run(workflow, 1)
    tester.deliver()
    run.cancel()

    tester.deliver(engine=newer)
    tester.advance(timedelta(minutes=1))
    tester.run_until_idle()

    assert calls == [7]
