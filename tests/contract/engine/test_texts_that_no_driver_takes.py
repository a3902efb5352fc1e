"""Texts that no driver takes name nothing, or are refused by name: they are no errors of the driver."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import WorkflowBuilder, define_stage
from workflow_engine.errors import InvalidRequestError, StageNotFoundError, StageOutputMissing

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.facade.run_handle import RunHandle
    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


LOOK: dict[str, Callable[[WorkflowTester, RunHandle[Any], str], Any]] = {
    "a workflow": lambda tester, _, text: tester.list_runs(workflow=text).items,
    "a key of metadata": lambda tester, _, text: tester.list_runs(metadata={text: 1}).items,
    "a cursor": lambda tester, _, text: tester.list_runs(cursor=text).items,
    "an actor": lambda tester, run, text: tester.list_annotations(run.id, actor=text),
    "logs of a stage": lambda _, run, text: run.list_logs(stage=text).items,
    "logs after a line": lambda _, run, text: run.list_logs(after=f"9999999999999_{text}_1_1").items,
    "a workflow to resume": lambda tester, _, text: tester.resume_workflow(text) or (),
}


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"], ids=["NUL", "surrogate"])
@pytest.mark.parametrize("look", LOOK)
def test_a_text_that_no_driver_takes_names_nothing_or_is_refused(start: Start, look: str, text: str) -> None:
    asked: list[bool] = []

    def body(ctx: Any) -> int:
        ctx.log.info("hello")
        with pytest.raises(StageOutputMissing, match="stages: a"):
            ctx.optional(text)
        asked.append(True)
        return 1

    workflow = WorkflowBuilder("w", input=int).pipe(define_stage(id="a", execute=body, input=int, output=int)).build()
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    assert asked == [True]
    with contextlib.suppress(InvalidRequestError, StageNotFoundError):
        assert list(LOOK[look](tester, run, text)) == []
