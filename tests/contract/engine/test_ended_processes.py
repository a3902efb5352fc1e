"""A signal that ends a process in the middle of user code: what ran there was lost, and was not at fault."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import Pending, Retry, Suspend, WorkflowBuilder, define_async_batch_stage, define_stage
from workflow_engine.engine import reap_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

TOLD_TO_END = SystemExit(-(256 - signal.SIGTERM))  # as pools of processes say it


def test_a_body_in_whose_middle_a_signal_ends_the_process_was_lost_and_did_not_fail(start: Start) -> None:
    def body(ctx: Any) -> int:
        if ctx.attempt == 1:
            raise TOLD_TO_END
        return 1

    stage = define_stage(id="a", execute=body, input=int, output=int, retry=Retry(max_attempts=1))
    tester = start(WorkflowBuilder("ended", input=int).pipe(stage).build())
    run = tester.create_run("ended", 1)

    with pytest.raises(SystemExit):
        tester.deliver()
    reap_worker(tester.engine, tester.engine.worker_id)
    tester.run_to_end(run)

    assert (run.output(), run.list_stages()[0].attempt, run.list_stages()[0].crashes) == (1, 2, 1)


@pytest.mark.parametrize("hook", ["check", "on_cancel"])
def test_a_poll_or_hook_in_whose_middle_a_signal_ends_the_process_is_called_again(start: Start, hook: str) -> None:
    calls: list[int] = []

    def interrupted(_: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise TOLD_TO_END
        return 1

    hooks: dict[str, Any] = {"check": lambda _: Pending(), hook: interrupted}
    waits = define_async_batch_stage(
        id="a", execute=lambda _: Suspend(1), input=int, output=int, state=int, max_crashes=2, **hooks
    )
    tester = start(WorkflowBuilder("ended", input=int).pipe(waits).build())
    run = tester.create_run("ended", 1)
    tester.deliver()
    if hook == "on_cancel":
        run.cancel()
    tester.advance(timedelta(minutes=1))
    tester.sweep()

    with pytest.raises(SystemExit):
        tester.deliver()
    reap_worker(tester.engine, tester.engine.worker_id)
    tester.advance(timedelta(minutes=5))
    tester.sweep()
    tester.deliver()

    assert len(calls) == 2


@pytest.mark.parametrize(("code", "said"), [(3, "sys.exit(3)"), ("bye", "sys.exit('bye')"), (-300, "sys.exit(-300)")])
def test_a_body_that_exits_by_itself_fails_and_is_told_so_in_words(start: Start, code: int | str, said: str) -> None:
    def body(_: Any) -> int:
        raise SystemExit(code)

    stage = define_stage(id="a", execute=body, input=int, output=int)
    tester = start(WorkflowBuilder("ended", input=int).pipe(stage).build())
    run = tester.create_run("ended", 1)

    assert tester.deliver().result == "failed"

    assert run.snapshot().error_message == f"the stage called {said}"
