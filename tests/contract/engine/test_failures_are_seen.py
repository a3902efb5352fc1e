"""A failure is seen where people watch: the run's log, the worker's log with its traceback, the result of the task."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from workflow_engine.definition import (
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
    define_stage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

IBAN = "DE89370400440532013000"


class Account(BaseModel):
    iban: str = Field(max_length=5)


class RefusedError(Exception):
    """An error of a library, which says too much."""


def work(body: Callable[[StageContext[int]], Any], **options: Any) -> Any:
    stage = define_stage(id="work", execute=body, input=int, output=int, **options)
    return WorkflowBuilder("working", input=int).pipe(stage).build()


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_each_failed_attempt_leaves_one_error_in_the_log_of_the_run(start: Start) -> None:
    def body(ctx: StageContext[int]) -> int:
        ctx.log.info("trying")
        raise ValueError(f"no page {ctx.attempt}")

    tester = start(workflow := work(body, retry=Retry(max_attempts=2, jitter=False)))
    run = tester.create_run(workflow, 1)
    tester.run_to_end(run)

    lines = [line for line in run.list_logs().items if line.level == "error"]
    assert [line.attempt for line in lines] == [1, 2]
    assert [line.message.splitlines()[0] for line in lines] == [
        "attempt 1 failed: ValueError: no page 1",
        "attempt 2 failed: ValueError: no page 2",
    ]
    assert all('raise ValueError(f"no page {ctx.attempt}")' in line.message for line in lines)
    assert lines[0].fields == {"code": "STAGE_ERROR"}
    assert [line.level for line in run.list_logs().items] == ["info", "error", "info", "error"]


def test_the_limit_of_log_lines_does_not_drop_the_failure(start: Start) -> None:
    def body(ctx: StageContext[int]) -> int:
        for number in range(5):
            ctx.log.info(str(number))
        raise ValueError("no page")

    tester = start(workflow := work(body, retry=Retry(max_attempts=1)), max_log_lines=2)
    run = tester.create_run(workflow, 1)
    tester.run_to_end(run)

    assert [line.message.splitlines()[0] for line in run.list_logs().items] == [
        "0",
        "1",
        "3 more lines were dropped: an attempt keeps 2",
        "attempt 1 failed: ValueError: no page",
    ]


def test_the_log_of_the_worker_has_the_exception_and_the_task_says_what_happened(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def body(ctx: StageContext[int]) -> int:
        raise ValueError("no\npage")

    tester = start(workflow := work(body, retry=Retry(max_attempts=2, jitter=False)))
    tester.create_run(workflow, 1)

    first = tester.deliver()
    tester.advance(timedelta(minutes=1))
    tester.sweep()
    second = tester.deliver()

    assert (first.result, first.problem) == ("retrying", "ValueError: no page")
    assert (second.result, second.problem) == ("failed", "ValueError: no page")
    records = failures(caplog)
    assert [record.levelname for record in records] == ["WARNING", "ERROR"]
    assert all("ValueError: no page" in record.getMessage() for record in records)
    for record in records:
        assert record.exc_info is not None
        assert record.exc_info[0] is ValueError
        assert record.exc_info[2] is not None


def test_a_poll_that_cannot_find_out_is_a_warning_and_one_that_fails_an_error(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def poll(ctx: PollContext[int]) -> int | Pending[Any]:
        if ctx.polls == 0:
            raise ConnectionError("away")
        raise ValueError("refused")

    stage = define_async_batch_stage(
        id="work",
        execute=lambda _: Suspend(1),
        check=poll,
        input=int,
        output=int,
        state=int,
        retry=Retry(give_up_on=(ValueError,)),
    )
    tester = start(workflow := WorkflowBuilder("polling", input=int).pipe(stage).build())
    run = tester.create_run(workflow, 1)
    tester.run_to_end(run)

    assert [(record.levelname, record.exc_info[0]) for record in failures(caplog) if record.exc_info] == [
        ("WARNING", ConnectionError),
        ("ERROR", ValueError),
    ]
    assert [line.message.splitlines()[0] for line in run.list_logs().items] == ["poll 2 failed: ValueError: refused"]


def test_a_result_that_comes_too_late_is_no_error(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    tester: WorkflowTester

    def body(ctx: StageContext[int]) -> int:
        tester.cancel(ctx.run_id)
        raise ValueError("stopped")

    tester = start(workflow := work(body))
    tester.create_run(workflow, 1)

    assert tester.deliver().result == "discarded"
    assert {record.levelname for record in failures(caplog)} == {"WARNING"}


def raise_chain(ctx: StageContext[int]) -> int:
    try:
        Account(iban=IBAN)
    except ValueError as error:
        error.add_note(f"iban: {IBAN}")
        raise RefusedError("the account is refused") from error
    return 1


def raise_in_passing(ctx: StageContext[int]) -> int:
    try:
        raise_plainly(ctx)
    except RefusedError:
        raise KeyError("other")  # noqa: B904 - the context is what is tested
    return 1


def raise_group(ctx: StageContext[int]) -> int:
    raise ExceptionGroup("two", [ValueError("a"), RefusedError(f"iban={IBAN}")])


def raise_plainly(ctx: StageContext[int]) -> int:
    raise RefusedError(f"iban: '{IBAN}' is refused")


@pytest.mark.parametrize("body", [raise_chain, raise_in_passing, raise_group, raise_plainly])
def test_no_text_of_an_exception_shows_a_secret_wherever_it_is_logged(
    start: Start, caplog: pytest.LogCaptureFixture, body: Callable[[StageContext[int]], int]
) -> None:
    tester = start(workflow := work(body, retry=Retry(max_attempts=1)), redact_keys=("iban",))
    run = tester.create_run(workflow, 1)

    done = tester.deliver()

    record = failures(caplog)[0]
    shown = logging.Formatter("%(message)s").format(record)
    recorded = repr([run.list_logs(), run.list_stages(), run.list_events(), run.snapshot(), done])
    assert IBAN not in shown
    assert IBAN not in recorded
    assert "RefusedError" in shown
    assert body.__name__ in shown
    assert body.__name__ in recorded
    assert record.exc_info is not None
    assert IBAN not in repr(record.exc_info[1].__dict__)


def test_an_exception_without_secrets_is_logged_as_it_is(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    raised = RefusedError("the account is refused")

    def body(ctx: StageContext[int]) -> int:
        raise raised

    tester = start(workflow := work(body, retry=Retry(max_attempts=1)))
    tester.create_run(workflow, 1)
    tester.deliver()

    record = failures(caplog)[0]
    assert record.exc_info is not None
    assert record.exc_info[1] is raised
