"""What goes into a run and its stages, what comes out of them, and what is kept of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from workflow_engine.definition import (
    GroupOutput,
    NoInput,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
    define_stage,
    stage,
)
from workflow_engine.errors import (
    DefinitionError,
    IdempotencyConflictError,
    InvalidDataError,
    RunStateError,
    StageNotFoundError,
)
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.schema.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


class Nested(BaseModel):
    depth: int = 1
    unit: str = "cm"


class Config(BaseModel):
    factor: int = Field(default=2, ge=1)
    nested: Nested = Nested()


class Amount(BaseModel):
    value: int


def step(
    name: str, body: Callable[..., Any] = lambda ctx: ctx.input, *, takes: Any = int, gives: Any = int, **options: Any
) -> Any:
    return define_stage(id=name, execute=body, input=takes, output=gives, **options)


def chain(*stages: Any, takes: Any = int, name: str = "chain") -> Any:
    builder: Any = WorkflowBuilder(name, input=takes)
    for one in stages:
        builder = builder.pipe(one)
    return builder.build()


def noting(seen: list[Any], item: Any, result: Any) -> Any:
    seen.append(item)
    return result


def test_group_one_gets_the_runs_input_and_each_later_group_the_output_before_it(start: Start) -> None:
    workflow = chain(*(step(name, lambda ctx: ctx.input * 10 + 1) for name in ("a", "b", "c")))
    tester = start(workflow)

    run = tester.create_run(workflow, 7)
    tester.run_until_idle()

    assert [tester.get_stage_output(run.id, name) for name in "abc"] == [71, 711, 7111]
    assert run.output() == 7111


def test_members_of_a_group_get_the_same_value_and_never_a_siblings_output(start: Start) -> None:
    seen: dict[str, Any] = {}

    def look(ctx: StageContext[int]) -> int:
        seen[ctx.stage_id] = (ctx.input, ctx.optional("b" if ctx.stage_id == "c" else "c"))
        return ctx.input + len(seen)

    first, b, c = step("a", lambda ctx: ctx.input), step("b", look), step("c", look)
    last = step("last", lambda ctx: dict(ctx.input.items()), takes=GroupOutput, gives=dict[str, int])
    workflow = WorkflowBuilder("group", input=int).pipe(first).parallel(b, c).pipe(last).build()
    tester = start(workflow)

    run = tester.create_run(workflow, 5)
    tester.run_until_idle()

    assert seen == {"b": (5, None), "c": (5, None)}
    assert run.output() == {"b": 6, "c": 7}


def test_the_input_is_the_same_in_retry_and_rerun(start: Start) -> None:
    seen: list[int] = []

    def flaky(ctx: StageContext[int]) -> int:
        seen.append(ctx.input)
        if len(seen) == 1:
            raise ConnectionError
        return 0

    workflow = chain(step("a", lambda ctx: ctx.input + 1), step("b", flaky))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_to_end(run)

    tester.rerun(run.id, from_stage="b")
    tester.run_to_end(run)

    assert seen == [2, 2, 2]


def test_a_stage_without_input_gets_an_empty_one(start: Start) -> None:
    workflow = chain(step("a", lambda ctx: ctx.input), step("b", lambda ctx: repr(ctx.input), takes=NoInput, gives=str))
    tester = start(workflow)

    run = tester.create_run(workflow, 3)
    tester.run_until_idle()

    assert run.output() == "NoInput()"


@pytest.mark.parametrize("absent", [0, "", False, None, [], {}, 0.0])
def test_a_falsy_output_is_an_output(start: Start, absent: Any) -> None:
    workflow = chain(
        step("a", lambda _: absent, gives=Any),
        step("b", lambda ctx: [ctx.input, ctx.require("a")], takes=Any, gives=list[Any]),
    )
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    assert tester.get_stage_output(run.id, "a") == absent
    assert repr(run.output()) == repr([absent, absent])


def test_a_missing_predecessor_output_fails_the_stage_at_once_without_entering_it(start: Start) -> None:
    entered: list[int] = []
    workflow = chain(step("a", lambda ctx: ctx.input), step("b", lambda ctx: noting(entered, 1, ctx.input)))
    tester = start(workflow)
    run = tester.create_run(workflow, 9)
    tester.deliver()
    stages = metadata.tables["workflow_stages"]
    tester.database.transact(
        lambda tx: tx.execute(stages.update().where(stages.c.stage_id == "b").values(input_group=0))
    )
    runs = metadata.tables["workflow_runs"]
    tester.database.transact(
        lambda tx: tx.execute(stages.update().where(stages.c.stage_id == "b").values(input_group=2))
    )
    tester.database.transact(lambda tx: tx.execute(runs.update().values(input="42")))

    tester.run_until_idle()

    failed: Any
    [failed] = [one for one in run.list_stages() if one.stage_id == "b"]
    assert (failed.error.code, failed.attempt, entered) == ("OUTPUT_MISSING", 1, [])


def test_what_is_stored_and_forwarded_is_the_parsed_value(start: Start) -> None:
    workflow = chain(
        step("a", lambda ctx: {"value": str(ctx.input.value)}, takes=Amount, gives=Amount),
        step("b", lambda ctx: [type(ctx.input).__name__, ctx.require("a").value], takes=Amount, gives=list[Any]),
        takes=Amount,
    )
    tester = start(workflow)

    run = tester.create_run(workflow, {"value": "12"})
    tester.run_until_idle()

    assert tester.get_input(run.id) == {"value": 12}
    assert run.output() == ["Amount", 12]


@stage
def multiply(ctx: StageContext[int, Config]) -> list[int]:
    return [ctx.input * ctx.config.factor, ctx.config.nested.depth]


def test_config_is_merged_deeply_over_defaults_and_stored_resolved(start: Start) -> None:
    workflow = chain(multiply)
    tester = start(workflow)

    run = tester.create_run(workflow, 10, config={"multiply": {"nested": {"depth": "7"}}})
    tester.run_until_idle()

    assert tester.get_config(run.id) == {"multiply": {"factor": 2, "nested": {"depth": 7, "unit": "cm"}}}
    assert run.output() == [20, 7]


def test_config_is_the_same_in_first_run_retry_poll_and_rerun(start: Start) -> None:
    seen: list[int] = []

    def body(ctx: Any) -> Any:
        seen.append(ctx.config.factor)
        if len(seen) == 1:
            raise ConnectionError
        return Suspend(1)

    def check(ctx: Any) -> int:
        seen.append(ctx.config.factor)
        return 1

    workflow = chain(
        define_async_batch_stage(id="a", execute=body, check=check, input=int, output=int, state=int, config=Config)
    )
    tester = start(workflow)
    run = tester.create_run(workflow, 1, config={"a": {"factor": 9}})
    tester.run_to_end(run)

    tester.rerun(run.id, from_stage="a")
    tester.run_to_end(run)

    assert seen == [9, 9, 9, 9, 9]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"multipli": {}}, 'did you mean "multiply"'),
        ({"multiply": {"factor": 0}}, "multiply.factor"),
        ({"multiply": {"factro": 3}}, 'did you mean "factor"'),
        ({"multiply": {"nested": {"depth": "deep"}}}, "multiply.nested.depth"),
        ([], "expected a mapping"),
    ],
)
def test_a_wrong_config_is_refused_with_its_path_and_nothing_is_written(
    start: Start, config: Any, problem: str
) -> None:
    workflow = chain(multiply)
    tester = start(workflow)

    with pytest.raises(InvalidDataError, match=problem):
        tester.create_run(workflow, 10, config=config)

    assert tester.list_runs().items == ()


def test_an_output_that_violates_its_schema_fails_at_once_with_the_path(start: Start) -> None:
    workflow = chain(step("a", lambda _: {"value": "many"}, gives=Amount))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    failed: Any
    [failed] = run.list_stages()
    assert (failed.status, failed.attempt, failed.error.code) == (StageStatus.FAILED, 1, "INVALID_DATA")
    assert "value: " in failed.error.message


def test_retries_belong_to_the_stage_and_wait_in_the_database(start: Start) -> None:
    def fails(_: Any) -> int:
        raise ConnectionError("down")

    retry = Retry(max_attempts=3, backoff=timedelta(seconds=10), factor=2, jitter=False)
    workflow = chain(step("a", fails, retry=retry))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    waiting = run.list_stages()[0]
    tester.advance(timedelta(seconds=10))
    tester.run_until_idle()
    tester.advance(timedelta(seconds=20))
    tester.run_until_idle()

    assert (waiting.status, waiting.attempt) == (StageStatus.PENDING, 1)
    assert (run.status, run.list_stages()[0].attempt) == (RunStatus.FAILED, 3)


def test_a_rerun_keeps_the_run_and_reuses_earlier_outputs(start: Start) -> None:
    calls: list[str] = []
    workflow = chain(*(step(name, lambda ctx: noting(calls, ctx.stage_id, ctx.input + 1)) for name in "abc"))
    tester = start(workflow)
    run = tester.create_run(workflow, 0)
    tester.run_until_idle()

    again = tester.rerun(run.id, from_stage="b")
    tester.run_until_idle()

    assert (again.id, run.snapshot().generation, run.output()) == (run.id, 1, 3)
    assert calls == ["a", "b", "c", "b", "c"]
    history = run.list_stages(history=True)
    assert [(one.stage_id, one.generation, one.is_live) for one in history] == [
        ("a", 0, True), ("b", 0, False), ("b", 1, True), ("c", 0, False), ("c", 1, True),
    ]  # fmt: skip


def test_refused_reruns_say_why_and_change_nothing(start: Start) -> None:
    workflow = chain(step("a", lambda ctx: ctx.input), step("b", lambda ctx: ctx.input))
    tester = start(workflow)
    run = tester.create_run(workflow, 0)
    before = run.snapshot()

    with pytest.raises(StageNotFoundError, match='Stage "x" not found in workflow "chain"'):
        tester.rerun(run.id, from_stage="x")
    with pytest.raises(Exception, match='Cannot rerun from stage "b": no completed stages found before execution'):
        tester.rerun(run.id, from_stage="b")
    with pytest.raises(RunStateError, match="only an ended run is rerun"):
        tester.rerun(run.id, from_stage="a")

    assert run.snapshot() == before


def test_the_same_key_and_request_is_the_same_run(start: Start) -> None:
    workflow = chain(multiply)
    tester = start(workflow)

    first = tester.create_run(workflow, 3, idempotency_key="doc-1")
    second = tester.create_run(workflow, "3", idempotency_key="doc-1", priority=9, metadata={"x": 1})

    assert first.id == second.id
    assert len(tester.messages.waiting) == 1
    assert len(tester.list_runs().items) == 1


@pytest.mark.parametrize("other", [{"input": 4}, {"config": {"multiply": {"factor": 3}}}, {"workflow": "other"}])
def test_the_same_key_with_another_request_is_a_conflict(start: Start, other: dict[str, Any]) -> None:
    workflow, twin = chain(multiply), chain(multiply, name="other")
    tester = start(workflow, twin)
    tester.create_run(workflow, 3, idempotency_key="doc-1")

    with pytest.raises(IdempotencyConflictError, match="doc-1"):
        tester.create_run(**({"workflow": workflow, "input": 3, "idempotency_key": "doc-1"} | other))

    assert len(tester.list_runs().items) == 1


def test_a_rejected_create_leaves_the_key_free(start: Start) -> None:
    workflow = chain(multiply)
    tester = start(workflow)

    with pytest.raises(InvalidDataError):
        tester.create_run(workflow, "three", idempotency_key="doc-1")
    run = tester.create_run(workflow, 3, idempotency_key="doc-1")

    assert [event.sequence for event in run.list_events()] == [1]


def test_the_argument_wins_over_the_workflow_and_that_over_the_default(start: Start) -> None:
    plain, urgent = chain(step("a")), WorkflowBuilder("urgent", input=int, priority=9).pipe(step("a")).build()
    tester = start(plain, urgent)

    found = [
        tester.create_run(workflow, 1, **options).snapshot().priority
        for workflow, options in ((plain, {}), (urgent, {}), (urgent, {"priority": 0}))
    ]

    assert found == [5, 9, 0]


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: chain(step("a"), step("a")), '"a" appears 2 times'),
        (chain, "no stages"),
        (lambda: WorkflowBuilder("w", input=int).parallel(step("a")).build(), "parallel needs two"),
        (lambda: chain(step("a", dependencies=["z"]), step("zz")), 'depends on "z", which is not in the workflow'),
        (lambda: chain(step("a", dependencies=["b"]), step("b")), 'depends on "b", which comes later'),
        (
            lambda: WorkflowBuilder("w", input=int).parallel(step("a", dependencies=["b"]), step("b")).build(),
            "in the same group",
        ),
        (lambda: chain(step("A")), "not valid"),
        (
            lambda: chain(define_stage(id="a", execute=lambda _: 1, input=int, output=list[str]), step("b")),
            '"b" takes int',
        ),
    ],
)
def test_builders_reject_and_name_the_stages(build: Callable[[], Any], named: str) -> None:
    with pytest.raises(DefinitionError) as error:
        build()

    assert named in str(error.value)
