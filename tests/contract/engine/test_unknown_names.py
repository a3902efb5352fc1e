"""Every refusal of an unknown stage, workflow or artifact names what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import GroupOutput, Retry, WorkflowBuilder, define_stage
from workflow_engine.errors import ArtifactNotFoundError, RunFailed, StageNotFoundError, WorkflowNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def step(name: str, body: Callable[..., Any] = lambda _: 1, *, takes: Any = int) -> Any:
    return define_stage(id=name, execute=body, input=takes, output=int, retry=Retry(max_attempts=1))


def keep(ctx: Any) -> int:
    ctx.storage.save("page", 1)
    return 1


ASKED: dict[str, Callable[[WorkflowTester, Any], object]] = {
    "rerun": lambda _, run: run.rerun(from_stage="raed"),
    "rerun by a key": lambda _, run: run.rerun(from_stage="raed", idempotency_key="k"),
    "fork": lambda tester, run: tester.fork(run.id, from_stage="raed"),
    "complete_stage": lambda tester, run: tester.complete_stage(run.id, "raed", 1),
    "fail_stage": lambda tester, run: tester.fail_stage(run.id, "raed", "no"),
    "get_stage_output": lambda tester, run: tester.get_stage_output(run.id, "raed"),
    "callback_token": lambda tester, run: tester.callback_token(run.id, "raed"),
    "create_log_context": lambda tester, run: tester.create_log_context(run.id, "raed"),
    "list_attempts": lambda tester, run: tester.list_attempts(run.id, "raed"),
    "list_logs": lambda tester, run: tester.list_logs(run.id, "raed"),
    "list_annotations": lambda tester, run: tester.list_annotations(run.id, stage="raed"),
    "get_artifact": lambda tester, run: tester.get_artifact(run.id, "page", stage="raed"),
}


@pytest.fixture
def run_of(start: Start) -> tuple[WorkflowTester, Any]:
    workflow = WorkflowBuilder("documents", input=int).pipe(step("read", keep)).pipe(step("keep")).build()
    tester = start(workflow, signing_key="k")
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    return tester, run


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_an_unknown_stage_is_answered_with_those_of_the_workflow(
    run_of: tuple[WorkflowTester, Any], ask: Callable[[WorkflowTester, Any], object]
) -> None:
    tester, run = run_of

    with pytest.raises(StageNotFoundError, match=r'"documents" \(did you mean "read"\? stages: read, keep\)'):
        ask(tester, run)


def test_an_unknown_workflow_is_answered_with_the_registered_ones(run_of: tuple[WorkflowTester, Any]) -> None:
    tester, _ = run_of

    with pytest.raises(WorkflowNotFoundError, match=r'\(did you mean "documents"\? registered: documents\)'):
        tester.create_run("documnets", 1)


def test_an_unknown_artifact_is_answered_with_those_of_the_same_owner(run_of: tuple[WorkflowTester, Any]) -> None:
    tester, run = run_of

    with pytest.raises(ArtifactNotFoundError, match=r'no artifact \'paeg\' \(did you mean "page"\? artifacts: page\)'):
        tester.get_artifact(run.id, "paeg", stage="read")
    with pytest.raises(ArtifactNotFoundError, match=r"no artifact 'page' \(artifacts: none\)"):
        tester.get_artifact(run.id, "page")


def test_a_stage_that_has_nothing_yet_is_not_unknown(run_of: tuple[WorkflowTester, Any]) -> None:
    tester, run = run_of

    assert tester.list_logs(run.id, "keep").items == ()
    assert tester.list_annotations(run.id, stage="keep") == []


@pytest.mark.parametrize(
    ("asks", "for_", "reason"),
    [
        ("b", "c", "runs at the same time, in the same group 2"),
        ("b", "d", "runs later, in group 3"),
        ("b", "aa", r'does not have \(did you mean "a"\? stages: a, b, c, d\)'),
    ],
)
def test_a_body_that_requires_what_it_cannot_have_is_told_why(start: Start, asks: str, for_: str, reason: str) -> None:
    def body(ctx: Any) -> int:
        return int(ctx.require(for_)) if ctx.stage_id == asks else 1

    first, second = step("b", body), step("c", body)
    builder: Any = WorkflowBuilder("w", input=int).pipe(step("a")).parallel(first, second)
    workflow = builder.pipe(step("d", takes=GroupOutput)).build()
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    with pytest.raises(RunFailed, match=reason):
        run.output()
