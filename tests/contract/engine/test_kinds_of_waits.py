"""A kind of wait is one value, one file of the engine and one line of its registry: a planted third one needs no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from typing_extensions import override

from workflow_engine.definition import CancelContext, Stage, StageContext, Suspend, WorkflowBuilder, stage
from workflow_engine.definition.waits import Wait
from workflow_engine.engine.decisions.outcomes import Completed, NotReady, decide_pending
from workflow_engine.engine.waits import registry
from workflow_engine.engine.waits.wait_kind import WaitKind
from workflow_engine.lifecycle import RunStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.engine import Engine
    from workflow_engine.engine.data.stage_execution import StageExecution
    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


@dataclass(frozen=True, slots=True)
class Tide(Wait[str]):
    """The tide has to reach this height, in centimetres."""

    kind: ClassVar[str] = "tide"
    state_type: ClassVar[Any] = int

    height: int


class TideKind(WaitKind[Tide]):
    wait = Tide

    def __init__(self) -> None:
        self.present = 0

    @override
    def encode(self, engine: Engine, stage: Stage[Any, Any], wait: Tide) -> str:
        return str(wait.height)

    @override
    def ask(self, execution: StageExecution) -> Completed | NotReady:
        claim = execution.claim
        height = int(claim.suspended_state or "0")
        if self.present < height:
            return decide_pending(None, None, execution.stage, claim, execution.engine.settings)
        return Completed(execution.encode_output(f"{self.present} of {height}"))

    @override
    def decode(self, stage: Stage[Any, Any], state: str) -> int:
        return int(state)


CANCELLED: list[int] = []


@stage
def work(ctx: StageContext[int]) -> int:
    return ctx.input


def note(ctx: CancelContext[int]) -> None:
    CANCELLED.append(ctx.state)


@stage(on_cancel=note)
def ship(ctx: StageContext[int]) -> Suspend[Tide]:
    ctx.create_run("child", 1)
    return Suspend(Tide(ctx.input), poll_interval=timedelta(minutes=3))


CHILD = WorkflowBuilder("child", input=int).pipe(work).build()
HARBOUR = WorkflowBuilder("harbour", input=int).pipe(ship).build()


@pytest.fixture
def tide(monkeypatch: pytest.MonkeyPatch) -> TideKind:
    kind = TideKind()
    monkeypatch.setitem(registry.KINDS, "tide", kind)
    return kind


def test_a_stage_suspends_on_a_kind_of_its_own_is_asked_and_completes(start: Start, tide: TideKind) -> None:
    tester = start(HARBOUR, CHILD)
    run = tester.create_run(HARBOUR, 30)
    tester.run_until_idle()
    [waiting] = run.list_stages()

    tide.present = 31
    tester.advance(timedelta(minutes=3))
    tester.run_until_idle()

    assert ship.output.type is str
    assert waiting.suspension is not None
    assert (waiting.status, waiting.suspension.on, waiting.suspension.state) == (StageStatus.SUSPENDED, "tide", 30)
    assert waiting.suspension.poll_interval == timedelta(minutes=3)
    assert (run.status, run.output()) == (RunStatus.COMPLETED, "31 of 30")


def test_a_wait_of_any_kind_is_woken_by_the_end_of_a_child(start: Start, tide: TideKind) -> None:
    tester = start(HARBOUR, CHILD)
    run = tester.create_run(HARBOUR, 30)
    tester.deliver()
    before = run.status
    tide.present = 30

    tester.run_until_idle()  # no time passes: the child ends, which wakes the stage

    assert (before, run.status, run.output()) == (RunStatus.SUSPENDED, RunStatus.COMPLETED, "30 of 30")


def test_on_cancel_gets_the_state_that_the_kind_decodes(start: Start, tide: TideKind) -> None:
    tester = start(HARBOUR, CHILD)
    run = tester.create_run(HARBOUR, 30 + tide.present)
    tester.run_until_idle()
    CANCELLED.clear()

    run.cancel()
    tester.run_until_idle()

    assert CANCELLED == [30]


def test_a_max_wait_ends_a_wait_of_any_kind(start: Start, tide: TideKind) -> None:
    tester = start(HARBOUR, CHILD, max_wait=timedelta(hours=1))
    run = tester.create_run(HARBOUR, 30)

    tester.run_to_end(run)

    assert (tide.present, run.list_stages()[0].status) == (0, StageStatus.FAILED)
    assert "max_wait" in run.list_stages()[0].error.message  # type: ignore[union-attr] # it failed


def test_a_wait_that_the_engine_has_no_kind_for_fails_its_stage_at_once(start: Start) -> None:
    tester = start(HARBOUR, CHILD)
    run = tester.create_run(HARBOUR, 30)

    tester.run_until_idle()

    [failed] = run.list_stages()
    assert (failed.status, failed.attempt) == (StageStatus.FAILED, 1)
    assert failed.error is not None
    assert failed.error.message == 'This release knows no wait of the kind "tide"'


def test_a_worker_that_lacks_the_kind_leaves_the_poll_to_one_that_has_it(
    start: Start, tide: TideKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    tester = start(HARBOUR, CHILD)
    run = tester.create_run(HARBOUR, 30)
    tester.deliver()
    tide.present = 30

    with monkeypatch.context() as older:
        older.delitem(registry.KINDS, "tide")
        tester.advance(timedelta(minutes=3))
        tester.sweep()
        given_back = [tester.deliver().result for _ in range(2)]
    tester.advance(timedelta(seconds=1))
    tester.run_to_end(run)

    assert "mismatched" in given_back
    assert run.output() == "30 of 30"
