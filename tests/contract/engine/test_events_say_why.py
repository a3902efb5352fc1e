"""Events of a bad end say why: code, message, the stage that failed, the limit that was passed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import (
    Pending,
    Retry,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
    define_stage,
)
from workflow_engine.errors import StageTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

ONCE = Retry(max_attempts=1)
#: What JSON escapes, what ASCII does not have, and what has no place in sixteen bits.
MESSAGE = 'tab\tquote" back\\slash é 漢 😀 \x7f ' + "x" * 600


def step(name: str, body: Callable[[Any], Any], **options: Any) -> Any:
    return define_stage(id=name, execute=body, input=int, output=int, retry=ONCE, **options)


def waiting(name: str, *, suspension: timedelta | None = None, **limits: Any) -> Any:
    return define_async_batch_stage(
        id=name,
        execute=lambda _: Suspend(1, poll_interval=timedelta(hours=1), max_wait=suspension),
        check=lambda _: Pending(),
        input=int,
        output=int,
        state=int,
        **limits,
    )


def fail(_: object) -> int:
    raise ValueError(MESSAGE)


def group(*members: Any, policy: Any = "finish_running") -> Any:
    builder: Any = WorkflowBuilder("group", input=int)
    one_or_more = builder.pipe(*members) if len(members) == 1 else builder.parallel(*members, on_failure=policy)
    return one_or_more.build()


def told(run: Any, event: str) -> list[dict[str, Any]]:
    return [dict(found.payload) for found in run.list_events() if found.type == event]


@pytest.mark.parametrize("policy", ["finish_running", "wait_all"])
def test_a_run_says_which_stage_failed_it_and_why_whoever_ends_last(start: Start, policy: str) -> None:
    tester = start(workflow := group(step("bad", fail), step("good", lambda _: 1), policy=policy))
    run = tester.create_run(workflow, 1)
    [bad, good] = sorted(tester.messages.waiting, key=lambda hint: hint.stage_id)

    tester.deliver(bad)
    tester.deliver(good)

    why = {"code": "STAGE_ERROR", "message": MESSAGE[:500]}
    assert told(run, "stage.failed") == [why]
    assert told(run, "run.failed") == [{**why, "failed_stage": "bad"}]


def test_a_member_that_is_cancelled_says_which_other_one_failed(start: Start) -> None:
    tester = start(workflow := group(step("bad", fail), waiting("parked"), step("queued", lambda _: 1)))
    run = tester.create_run(workflow, 1)
    hints = {hint.stage_id: hint for hint in tester.messages.waiting}

    tester.deliver(hints["parked"])
    tester.deliver(hints["bad"])

    why = {"reason": "stage failed", "code": "STAGE_ERROR", "message": MESSAGE[:500], "failed_stage": "bad"}
    assert told(run, "stage.cancelled") == [why, why]


def test_a_cancel_says_its_reason_to_every_stage(start: Start) -> None:
    tester = start(workflow := group(waiting("a"), waiting("b")), redact_keys=("iban",))
    run, other = tester.create_run(workflow, 1), tester.create_run(workflow, 1)

    tester.cancel(run.id, reason="wrong iban=DE89 " + "x" * 600)
    tester.cancel(other.id)

    reason = ("wrong iban=[redacted] " + "x" * 600)[:500]
    assert told(run, "run.cancelled") == [{"reason": reason}]
    assert told(run, "stage.cancelled") == [{"reason": "run cancelled", "message": reason}] * 2
    assert told(other, "stage.cancelled") == [{"reason": "run cancelled"}] * 2


def test_a_deadline_says_its_length_and_its_instant(start: Start) -> None:
    tester = start(workflow := group(waiting("a")))
    run = tester.create_run(workflow, 1, deadline=timedelta(minutes=5))
    tester.deliver()
    at = run.snapshot().deadline_at
    assert at is not None

    tester.advance(timedelta(minutes=6))
    tester.sweep()

    message = f"The run passed its deadline of 0:05:00 (the run's), at {at.isoformat()}"
    limit = {"name": "deadline", "source": "run", "seconds": 300.0, "at": at.isoformat()}
    assert told(run, "run.failed") == [{"code": "DEADLINE", "message": message, "limit": limit}]
    assert told(run, "stage.cancelled")[0] == {
        "reason": "deadline passed",
        "code": "DEADLINE",
        "message": message,
        "limit": limit,
    }
    assert run.snapshot().error_message == message


def test_a_queue_timeout_says_its_length_and_its_instant(start: Start) -> None:
    tester = start(workflow := group(step("a", lambda _: 1, queue_timeout=timedelta(minutes=2))))
    run = tester.create_run(workflow, 1)

    tester.advance(timedelta(minutes=3))
    tester.sweep()

    [failed] = told(run, "stage.failed")
    assert failed["code"] == "QUEUE_TIMEOUT"
    assert {**failed["limit"], "at": None} == {"name": "queue_timeout", "source": "stage", "seconds": 120.0, "at": None}
    assert f"its queue_timeout of 0:02:00 (the stage's), at {failed['limit']['at']}" in failed["message"]
    assert told(run, "run.failed") == [{k: failed[k] for k in ("code", "message")} | {"failed_stage": "a"}]


@pytest.mark.parametrize(
    ("limits", "source", "seconds"),
    [
        ({"max_wait": timedelta(hours=2)}, "stage", 7200.0),
        ({"suspension": timedelta(hours=3)}, "suspension", 10800.0),
        ({}, "setting", 14400.0),
    ],
    ids=["stage", "suspension", "setting"],
)
def test_a_suspension_that_lasts_too_long_says_whose_limit_that_was(
    start: Start, limits: dict[str, Any], source: str, seconds: float
) -> None:
    tester = start(workflow := group(waiting("a", **limits)), max_wait=timedelta(hours=4))
    run = tester.create_run(workflow, 1)
    tester.deliver()

    tester.advance(timedelta(hours=5))
    tester.run_until_idle()

    [failed] = told(run, "stage.failed")
    assert failed["code"] == "WAIT_TIMEOUT"
    assert (failed["limit"]["name"], failed["limit"]["source"], failed["limit"]["seconds"]) == (
        *("max_wait", source),
        seconds,
    )
    assert "at" in failed["limit"]


def test_an_attempt_that_runs_too_long_says_which_limit_that_was(start: Start) -> None:
    def body(_: object) -> int:
        raise StageTimeout("took longer than its time limit")  # as the engine raises it

    retried = Retry(max_attempts=2, jitter=False)
    stage = define_stage(id="slow", execute=body, input=int, output=int, retry=retried, timeout=timedelta(seconds=7))
    tester = start(workflow := group(stage))
    run = tester.create_run(workflow, 1)
    tester.run_to_end(run)

    limit = {"name": "timeout", "source": "stage", "seconds": 7.0}
    assert [payload["limit"] for payload in told(run, "stage.retrying") + told(run, "stage.failed")] == [limit, limit]
