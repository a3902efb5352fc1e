"""What stages do that nobody should do: each ends as a recorded outcome, and the worker goes on. On each database."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_engine.definition import (
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    define_stage,
    stage,
)
from workflow_engine.errors import ErrorCode
from workflow_engine.lifecycle import RunStatus
from workflow_engine.testing.kit import WorkflowTester

Body = Callable[[StageContext[Any]], Any]
ONCE = Retry(max_attempts=1)


class Out(BaseModel):
    items: list[int]


class Ref(BaseModel):
    job: str = "1"


class Scene:
    """What the stages do; set by the test."""

    body: Body = staticmethod(lambda ctx: ctx.input)
    poll: Callable[[PollContext[Any]], Any] = staticmethod(lambda _: {})


@stage(id="play", retry=ONCE)
def play(ctx: StageContext[dict[str, Any]]) -> dict[str, Any]:
    return Scene.body(ctx)


@stage(retry=ONCE)
def typed(ctx: StageContext[dict[str, Any]]) -> Out:
    return Scene.body(ctx)


def ask(ctx: PollContext[Ref]) -> dict[str, Any] | Pending:
    return Scene.poll(ctx)


@stage(poll=ask, retry=ONCE)
def park(ctx: StageContext[dict[str, Any]]) -> Suspend[Ref]:
    return Scene.body(ctx)


playing = WorkflowBuilder("playing", input=dict[str, Any]).pipe(play).build()
typing = WorkflowBuilder("typing", input=dict[str, Any]).pipe(typed).build()
parking = WorkflowBuilder("parking", input=dict[str, Any]).pipe(park).build()


@pytest.fixture
def tester(database_url: str) -> Iterator[WorkflowTester]:
    options = {"max_payload_bytes": 2**20, "max_log_lines": 100}
    with WorkflowTester([playing, typing, parking], database_url=database_url, **options) as started:
        yield started
        started.assert_consistent(final=True)


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_scene(body: Body, poll: Callable[[PollContext[Any]], Any] | None = None) -> None:
        monkeypatch.setattr(Scene, "body", staticmethod(body))
        if poll is not None:
            monkeypatch.setattr(Scene, "poll", staticmethod(poll))

    return set_scene


class Rude(Exception):  # noqa: N818 - it is
    def __str__(self) -> str:
        raise RuntimeError("no message")

    __repr__ = __str__


def raiser(error: BaseException) -> Body:
    def body(_: StageContext[Any]) -> Any:
        raise error

    return body


def coroutine(_: object) -> Any:
    async def body() -> dict[str, Any]:
        return {}

    made = body()
    made.close()  # else it warns that nobody awaited it, whenever the last log record of its traceback goes
    return made


def spend(ctx: StageContext[Any]) -> dict[str, Any]:
    ctx.report(cost=Decimal("1e300"))
    return {}


def count_too_far(ctx: StageContext[Any]) -> dict[str, Any]:
    ctx.report(tokens=2**80)
    return {}


def sum_to_infinity(ctx: StageContext[Any]) -> dict[str, Any]:
    ctx.report(heat=1e308)
    ctx.report(heat=1e308)
    return {}


def progress_too_far(ctx: StageContext[Any]) -> dict[str, Any]:
    ctx.progress(1.5)
    return {}


def progress_nowhere(ctx: StageContext[Any]) -> dict[str, Any]:
    ctx.progress(math.nan)
    return {}


def recurse(ctx: StageContext[Any]) -> dict[str, Any]:
    return recurse(ctx)


def save(key: Any) -> Body:
    def body(ctx: StageContext[Any]) -> Any:
        ctx.storage.save(key, 1)
        return {}

    return body


FAILING: list[tuple[str, Any, Body, ErrorCode, str]] = [
    ("46 output has NaN", playing, lambda _: {"a": math.nan}, ErrorCode.INVALID_PAYLOAD, "a"),
    ("49 output is too deep", playing, lambda _: {"a": _nested(300)}, ErrorCode.INVALID_PAYLOAD, "a"),
    ("51 output has an object", playing, lambda _: {"a": object()}, ErrorCode.INVALID_PAYLOAD, "a"),
    ("56 output is too large", playing, lambda _: {"a": "x" * 2**20}, ErrorCode.INVALID_PAYLOAD, "bytes"),
    ("57 output does not fit", typing, lambda _: {"items": [1, "two"]}, ErrorCode.INVALID_DATA, "items"),
    ("58 output is missing", typing, lambda _: None, ErrorCode.INVALID_DATA, "output"),
    ("63 a coroutine", playing, coroutine, ErrorCode.INVALID_DATA, "output"),
    ("63 a generator", playing, lambda _: (n for n in range(3)), ErrorCode.INVALID_DATA, "output"),
    ("64 a message that is no text", playing, raiser(ValueError({"a": object})), ErrorCode.STAGE_ERROR, "object"),
    ("64 a huge message", playing, raiser(ValueError("x" * 10**6)), ErrorCode.STAGE_ERROR, "truncated"),
    ("64 half a surrogate pair", playing, raiser(ValueError("a\ud800b")), ErrorCode.STAGE_ERROR, "ud800"),
    ("64 a NUL", playing, raiser(ValueError("a\x00b")), ErrorCode.STAGE_ERROR, "x00"),
    ("64 no message", playing, raiser(ValueError()), ErrorCode.STAGE_ERROR, "ValueError"),
    ("65 a message that raises", playing, raiser(Rude()), ErrorCode.STAGE_ERROR, "cannot be shown"),
    ("66 MemoryError", playing, raiser(MemoryError("full")), ErrorCode.STAGE_ERROR, "full"),
    ("66 SystemExit", playing, raiser(SystemExit(3)), ErrorCode.STAGE_ERROR, "3"),
    ("66 KeyboardInterrupt", playing, raiser(KeyboardInterrupt()), ErrorCode.STAGE_ERROR, "KeyboardInterrupt"),
    ("66 GeneratorExit", playing, raiser(GeneratorExit()), ErrorCode.STAGE_ERROR, "GeneratorExit"),
    ("66 a group of errors", playing, raiser(ExceptionGroup("two", [ValueError("a")])), ErrorCode.STAGE_ERROR, "two"),
    ("66 recursion without end", playing, recurse, ErrorCode.STAGE_ERROR, "recursion"),
    ("69 no wait", parking, lambda _: Suspend(Ref(), poll_interval=timedelta(0)), ErrorCode.STAGE_ERROR, "interval"),
    ("69 a wait back in time", parking, lambda _: Suspend(Ref(), max_wait=-timedelta(1)), ErrorCode.STAGE_ERROR, "max_wait"),
    ("69 the wrong state", parking, lambda _: Suspend({"job": [1]}), ErrorCode.INVALID_DATA, "job"),
    ("72 progress beyond the end", playing, progress_too_far, ErrorCode.STAGE_ERROR, "progress"),
    ("72 progress that is no number", playing, progress_nowhere, ErrorCode.STAGE_ERROR, "progress"),
    ("72 a cost beyond any column", playing, spend, ErrorCode.STAGE_ERROR, "cost"),
    ("72 tokens beyond any column", playing, count_too_far, ErrorCode.STAGE_ERROR, "tokens"),
    ("72 metrics that add up to infinity", playing, sum_to_infinity, ErrorCode.STAGE_ERROR, "heat"),
    ("73 a key that climbs", playing, save("../up"), ErrorCode.STAGE_ERROR, "key"),
    ("73 an absolute key", playing, save("/etc/passwd"), ErrorCode.STAGE_ERROR, "key"),
    ("73 a key with a NUL", playing, save("a\x00b"), ErrorCode.STAGE_ERROR, "key"),
    ("73 a long key", playing, save("k" * 1025), ErrorCode.STAGE_ERROR, "key"),
    ("73 a drive", playing, save("C:\\x"), ErrorCode.STAGE_ERROR, "key"),
    ("73 an empty key", playing, save(""), ErrorCode.STAGE_ERROR, "key"),
]  # fmt: skip


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("case", FAILING, ids=[case[0] for case in FAILING])
def test_a_stage_that_misbehaves_fails_once_and_says_why(
    tester: WorkflowTester, act: Callable[..., None], case: tuple[str, Any, Body, ErrorCode, str]
) -> None:
    _, workflow, body, code, word = case
    act(body)
    run = tester.create_run(workflow, {})

    assert tester.deliver().result == "failed"

    failed = run.list_stages()[0]
    assert run.status is RunStatus.FAILED
    assert failed.error is not None
    assert (failed.error.code, failed.crashes, failed.attempt) == (code, 0, 1)
    assert word in failed.error.message
    assert len(failed.error.message) <= 8 * 1024


POLLS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("70 the wrong type", lambda _: [1], "output"),
    ("70 nothing", lambda _: None, "output"),
    ("70 Suspend", lambda _: Suspend(Ref()), "Suspend"),
    ("70 a wait that is no time", lambda _: Pending(next_poll_in=timedelta(seconds=-1)), "next_poll_in"),
    ("66 SystemExit", raiser(SystemExit("out")), "out"),
    ("72 progress beyond the end", lambda _: Pending(progress=2.0), "progress"),
]


@pytest.mark.parametrize(("poll", "word"), [case[1:] for case in POLLS], ids=[case[0] for case in POLLS])
def test_a_poll_that_misbehaves_fails_the_stage(
    tester: WorkflowTester, act: Callable[..., None], poll: Callable[[Any], Any], word: str
) -> None:
    act(lambda _: Suspend(Ref()), poll)
    run = tester.create_run(parking, {})

    tester.run_to_end(run)

    assert run.status is RunStatus.FAILED
    assert word in run.snapshot().error_message


def test_a_stage_that_suspends_without_poll_fails_at_once(tester: WorkflowTester, act: Callable[..., None]) -> None:
    act(lambda _: Suspend({"job": "1"}))
    run = tester.create_run(playing, {})

    tester.deliver()

    assert run.snapshot().error_message.startswith(
        'Stage "play" returned Suspend but has no poll to end it; pass poll='
    )


def test_a_poll_that_is_never_ready_ends_with_its_longest_wait(
    tester: WorkflowTester, act: Callable[..., None]
) -> None:
    act(lambda _: Suspend(Ref(), max_wait=timedelta(minutes=10)), lambda _: Pending())
    run = tester.create_run(parking, {})

    tester.run_to_end(run)

    assert run.snapshot().error_code == ErrorCode.WAIT_TIMEOUT


@pytest.mark.parametrize("output", [None, 0, "", False, [], {}], ids=repr)
def test_an_output_that_is_false_is_an_output(output: Any) -> None:
    giving = define_stage(id="give", input=dict[str, Any], output=Any, execute=lambda _: output)
    taking = define_stage(id="take", input=Any, output=Any, execute=lambda ctx: [ctx.input, ctx.require("give")])
    workflow = WorkflowBuilder("false", input=dict[str, Any]).pipe(giving).pipe(taking).build()
    with WorkflowTester(workflow, check=True) as tester:
        run = tester.create_run(workflow, {})

        tester.run_to_end(run)

        assert run.output() == [output, output]


def test_what_a_stage_does_to_its_input_is_seen_by_nobody_else(
    tester: WorkflowTester, act: Callable[..., None]
) -> None:
    given = {"items": [1]}

    def spoil(ctx: StageContext[Any]) -> Any:
        ctx.input["items"].append("spoiled")
        return {"seen": ctx.input["items"]}

    act(spoil)
    run = tester.create_run(playing, given)
    tester.run_to_end(run)
    tester.rerun(run.id, from_stage=play)
    tester.run_to_end(run)

    assert run.output() == {"seen": [1, "spoiled"]}
    assert given == {"items": [1]}


def test_a_flood_of_log_lines_is_kept_within_bounds(tester: WorkflowTester, act: Callable[..., None]) -> None:
    def flood(ctx: StageContext[Any]) -> dict[str, Any]:
        for number in range(5000):
            ctx.log.info("line", number=number)
        return {}

    act(flood)
    run = tester.create_run(playing, {})

    assert tester.deliver().result == "completed"
    lines = tester.list_logs(run.id, limit=500).items
    assert len(lines) == 101
    assert lines[-1].message == "4900 more lines were dropped: an attempt keeps 100"


def test_a_stage_that_closes_our_connections_still_reports(tester: WorkflowTester, act: Callable[..., None]) -> None:
    def close(_: StageContext[Any]) -> dict[str, Any]:
        if tester.database.is_postgres:
            tester.database.close()
        return {}

    act(close)
    run = tester.create_run(playing, {})

    assert tester.deliver().result == "completed"
    assert run.status is RunStatus.COMPLETED


def test_a_stage_that_changes_directory_and_signals_still_reports(
    tester: WorkflowTester, act: Callable[..., None], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def rearrange(_: StageContext[Any]) -> dict[str, Any]:
        os.chdir("/")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return {}

    act(rearrange)
    run = tester.create_run(playing, {})
    result = tester.deliver().result

    signal.signal(signal.SIGTERM, before)
    assert result == "completed"
    assert run.status is RunStatus.COMPLETED
