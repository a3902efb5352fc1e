"""Values that are hard to keep, and floods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, stage_of, step
from workflow_engine.definition import WorkflowBuilder
from workflow_engine.errors import InvalidDataError, InvalidRequestError
from workflow_engine.events import EventType
from workflow_engine.lifecycle import RunStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def noting(seen: list[Any], item: Any, result: Any) -> Any:
    seen.append(item)
    return result


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


KEPT: list[Any] = [
    "\x00",
    "a\x00b",
    "\ud800",
    "é \U0001f600 \u2028",
    {"\x00": "\ud800"},
    2**53 + 1,
    -(2**64),
    10**4299,
    1e308,
    5e-324,
    -0.0,
    0.1 + 0.2,
    True,
    nested(200),
    {"__type__": "uuid"},
    {"a": {"b": [1, None]}},
    "x" * 100_000,
    [],
    {"": ""},
    "'; DROP TABLE workflow_runs; --",
    "%s %(x)s :name",
]


def test_what_json_keeps_comes_back_as_it_was(start: Start) -> None:
    seen: list[str] = []
    workflow = chain(
        step("a", lambda ctx: KEPT[ctx.input]),
        step("b", lambda ctx: noting(seen, repr(ctx.input), ctx.input), takes=Any),
    )
    tester = start(workflow)

    runs = []
    for number in range(len(KEPT)):
        runs.append(tester.create_run(workflow, number))
        tester.run_until_idle()

    assert [run.status for run in runs] == [RunStatus.COMPLETED] * len(KEPT)
    assert [repr(run.output()) for run in runs] == [repr(value) for value in KEPT] == seen


REFUSED: list[tuple[Any, str]] = [
    (float("nan"), "nan has no JSON form"),
    ({"rows": [1, float("inf")]}, "rows[1]: inf has no JSON form"),
    (nested(201), "nested deeper than 200"),
    (nested(5000), "nested deeper than 200"),
    (CYCLE, "contains itself"),
    ({"a": {1, 2}}, "a: "),
    (b"\xff\xfe", ""),
    (object(), "object"),
    ({1: "a"}, "key 1"),
    (10**4300, "4,300 digits"),
    ("x" * 9000, "at most 8,000 are allowed"),
    (lambda: 1, "function"),
    ((number for number in [1]), "comes back as list"),
]


def test_what_json_cannot_keep_fails_the_stage_at_once_and_says_where(start: Start) -> None:
    workflow = chain(step("a", lambda ctx: REFUSED[ctx.input][0]))
    tester = start(workflow, max_payload_bytes=8000)

    runs = [tester.create_run(workflow, number) for number in range(len(REFUSED))]
    tester.run_until_idle()

    for run, (_, told) in zip(runs, REFUSED, strict=True):
        failed = stage_of(run)
        assert (failed.status, failed.attempt, failed.error.code) == (StageStatus.FAILED, 1, "INVALID_PAYLOAD")
        assert told in failed.error.message
        assert len(failed.error.message) < 1000


def test_a_coroutine_that_nobody_awaited_is_no_output(start: Start) -> None:
    async def other() -> int:
        return 1

    made: list[Any] = []

    def body(_: Any) -> Any:
        made.append(other())
        return made[0]

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_until_idle()
    made[0].close()

    assert stage_of(run).error.code == "INVALID_PAYLOAD"


@pytest.mark.parametrize("value", [float("nan"), CYCLE, nested(300), object()], ids=["nan", "cycle", "deep", "object"])
def test_a_run_input_that_cannot_be_kept_is_refused_and_nothing_is_written(start: Start, value: Any) -> None:
    workflow = WorkflowBuilder("any", input=Any).pipe(step("a", takes=Any)).build()
    tester = start(workflow)

    with pytest.raises(InvalidRequestError):
        tester.create_run(workflow, value)

    assert tester.list_runs().items == ()


@pytest.mark.parametrize(
    "metadata", [{"x": float("nan")}, {1: 2}, {"": 1}, {"k" * 201: 1}, {"x": "y" * 2_000_000}, [("a", 1)]],
    ids=["nan", "number", "empty", "long", "large", "list"],
)  # fmt: skip
def test_metadata_that_cannot_be_kept_is_refused(start: Start, metadata: Any) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)

    with pytest.raises(InvalidRequestError):
        tester.create_run(workflow, 1, metadata=metadata)

    assert tester.list_runs().items == ()


@pytest.mark.parametrize("key", ["k" * 200, "\ud800" * 200, "\x00" * 200, "é" * 200])
def test_a_metadata_key_of_any_characters_is_kept(start: Start, key: str) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)

    run = tester.create_run(workflow, 1, metadata={key: "v"})

    assert run.snapshot().metadata == {key: "v"}


@pytest.mark.parametrize("key", ["", "k" * 256, "\x00", "\ud800", 7])
def test_an_idempotency_key_that_no_column_holds_is_refused(start: Start, key: Any) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)

    with pytest.raises(InvalidDataError, match="idempotency_key"):
        tester.create_run(workflow, 1, idempotency_key=key)

    assert tester.list_runs().items == ()


def test_a_stage_that_changes_what_it_was_given_changes_nothing_that_is_kept(start: Start) -> None:
    def spoil(ctx: Any) -> list[int]:
        ctx.input.append(99)
        ctx.require("a").append(99)
        if ctx.attempt == 1:
            raise ConnectionError
        return [len(ctx.input), len(ctx.require("a"))]

    workflow = chain(
        step("a", lambda _: [1]), step("b", spoil, takes=list[int]), step("c", lambda ctx: ctx.require("a"), takes=Any)
    )
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.run_to_end(run)

    assert (tester.get_stage_output(run.id, "b"), run.output()) == ([2, 1], [1])


def test_an_output_may_be_the_input_itself(start: Start) -> None:
    workflow = chain(step("a", lambda _: {"x": [1]}), step("b", lambda ctx: ctx.input, takes=Any))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    assert run.output() == {"x": [1]}


def test_a_flood_of_log_lines_is_cut_and_counted(start: Start) -> None:
    def body(ctx: Any) -> int:
        for number in range(5_000):
            ctx.log.debug("line", number=number)
        return 1

    workflow = chain(step("a", body))
    tester = start(workflow, max_log_lines=450)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    lines = run.list_logs().items
    assert [line.fields.get("number") for line in lines] == [*range(450), None]
    assert lines[-1].message == "4550 more lines were dropped: an attempt keeps 450"


def test_any_text_and_any_field_can_be_logged(start: Start) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError

    def body(ctx: Any) -> int:
        ctx.log.info("\x00\ud800", odd=Broken(), nan=float("nan"), deep=nested(300), key={1: 2}, text="\x00")
        ctx.log.info("x" * 1_000_000, token="t", nested={"api_key": ["k"], "count": 3})  # noqa: S106 - to be redacted
        return 1

    workflow = chain(step("a", body))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    first, second = run.list_logs().items
    assert (run.status, first.message) == (RunStatus.COMPLETED, "\\x00\\ud800")
    assert len(second.message) <= 65_536
    assert second.fields == {"token": "[redacted]", "nested": {"api_key": "[redacted]", "count": 3}}


def test_a_flood_of_progress_is_thinned(start: Start) -> None:
    def body(ctx: Any) -> int:
        for _ in range(300):
            ctx.progress(1)
        return 1

    workflow = chain(step("a", body))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    told = [event for event in run.list_events() if event.type is EventType.STAGE_PROGRESS]
    assert 20 <= len(told) < 100


@pytest.mark.parametrize(
    "report",
    [{"cost": -1}, {"cost": float("nan")}, {"cost": 1e30}, {"tokens": 2**70}, {"tokens": 1.5}, {"rows": float("inf")}],
)
def test_a_report_that_no_column_holds_is_refused_in_the_body(start: Start, report: dict[str, Any]) -> None:
    def body(ctx: Any) -> str:
        with pytest.raises((TypeError, ValueError)):
            ctx.report(**report)
        return "went on"

    workflow = chain(step("a", body))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    assert run.output() == "went on"
    assert (stage_of(run).cost, stage_of(run).tokens, stage_of(run).metrics) == (0, 0, {})


def test_metrics_that_leave_the_range_of_numbers_are_refused_in_the_body(start: Start) -> None:
    def body(ctx: Any) -> str:
        ctx.report(rows=1e308)
        with pytest.raises(ValueError, match="finite"):
            ctx.report(rows=1e308)
        return "went on"

    workflow = chain(step("a", body))
    tester = start(workflow)

    run = tester.create_run(workflow, 1)
    tester.run_until_idle()

    assert (run.output(), stage_of(run).metrics) == ("went on", {"rows": 1e308})


def test_user_data_is_never_in_a_message(start: Start) -> None:
    workflow = chain(step("a", lambda _: "needle-in-output"))
    tester = start(workflow)

    tester.create_run(workflow, 1, metadata={"x": "needle-in-metadata"})
    shown = repr(tester.messages.waiting)
    tester.run_until_idle()

    assert "needle" not in shown + repr(tester.messages.waiting)
