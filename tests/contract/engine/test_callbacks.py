"""Callbacks: outcomes that code outside of a stage tells, in every state of the stage, and the tokens for that."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import begun, chain, polled, stage_of, step
from workflow_engine.definition import Pending, Retry, Suspend, define_async_batch_stage
from workflow_engine.engine import read_token
from workflow_engine.errors import (
    ConfigurationError,
    InvalidDataError,
    InvalidRequestError,
    RunNotFoundError,
    RunStateError,
    StageNotFoundError,
)
from workflow_engine.lifecycle import RunStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def test_an_outcome_from_outside_completes_a_suspended_stage_and_the_run_goes_on(start: Start) -> None:
    tester, run = begun(start, polled(), step("after"))
    tester.deliver()

    accepted = tester.complete_stage(run.id, "waits", "5")
    tester.run_until_idle()

    assert (accepted, run.output()) == (True, 5)
    kinds = [(one.kind.value, str(one.outcome)) for one in tester.list_attempts(run.id, "waits")]
    assert kinds == [("EXECUTE", "SUSPENDED"), ("PUSH", "COMPLETED")]


def test_a_failure_from_outside_fails_the_stage_for_good(start: Start) -> None:
    tester, run = begun(start, polled(), step("after"))
    tester.deliver()

    accepted = tester.fail_stage(run.id, "waits", "provider says no, token=abc")

    error = stage_of(run, "waits").error
    assert (accepted, run.status, error.code) == (True, RunStatus.FAILED, "REPORTED")
    assert error.message == "provider says no, token=[redacted]"


@pytest.mark.parametrize("report", ["complete", "fail"])
def test_what_has_not_started_has_nothing_to_report(start: Start, report: str) -> None:
    tester, run = begun(start, polled(), step("after"))
    act = report_with(tester, report)

    for name in ("waits", "after"):
        with pytest.raises(RunStateError, match="has not started"):
            act(run.id, name)

    assert [event.sequence for event in run.list_events()] == [1]


@pytest.mark.parametrize("report", ["complete", "fail"])
def test_what_is_unknown_is_not_found(start: Start, report: str) -> None:
    tester, run = begun(start, polled())
    act = report_with(tester, report)

    with pytest.raises(StageNotFoundError):
        act(run.id, "nothing")
    with pytest.raises(RunNotFoundError):
        act("nobody", "waits")


@pytest.mark.parametrize("report", ["complete", "fail"])
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "skipped"])
def test_what_has_an_outcome_keeps_it(start: Start, report: str, end: str) -> None:
    skips = end == "skipped"
    tester, run = begun(start, polled(skip_if=lambda _: skips), step("after"))
    tester.deliver()
    if end == "cancelled":
        run.cancel()
    elif not skips:
        report_with(tester, "complete" if end == "completed" else "fail")(run.id, "waits")
    before = run.list_stages()

    accepted = report_with(tester, report)(run.id, "waits")

    assert accepted is False
    assert run.list_stages() == before


def test_a_stage_that_an_ended_run_never_reached_is_no_error(start: Start) -> None:
    tester, run = begun(start, polled(), step("after"))
    run.cancel()

    accepted = tester.complete_stage(run.id, "after", 1)

    assert accepted is False


@pytest.mark.parametrize("report", ["complete", "fail"])
def test_a_report_while_the_body_runs_wins_and_the_body_is_fenced_off(start: Start, report: str) -> None:
    def body(ctx: Any) -> int:
        report_with(tester, report)(run.id, "a")
        return 1

    tester, run = begun(start, step("a", body))

    performed = tester.deliver()

    assert performed.result == "discarded"
    assert stage_of(run, "a").status is (StageStatus.COMPLETED if report == "complete" else StageStatus.FAILED)
    assert run.status.is_terminal


def test_a_report_while_a_poll_runs_wins(start: Start) -> None:
    def check(_: Any) -> int:
        tester.complete_stage(run.id, "waits", 5)
        return 6

    tester, run = begun(start, polled(check=check))

    tester.run_to_end(run)

    assert run.output() == 5


def test_an_output_that_does_not_fit_is_refused_and_the_stage_goes_on_waiting(start: Start) -> None:
    tester, run = begun(start, polled())
    tester.deliver()

    with pytest.raises(InvalidDataError):
        tester.complete_stage(run.id, "waits", "five")

    assert stage_of(run, "waits").status is StageStatus.SUSPENDED


def test_a_token_stands_for_one_stage_run(start: Start) -> None:
    tester, run = begun(start, polled(), signing_key="k")
    tester.deliver()
    token = tester.callback_token(run.id, "waits")
    run.cancel()
    run.rerun(from_stage="waits")
    tester.deliver(tester.messages.waiting[-1])

    of_the_old_generation = tester.complete_by_token(token, 5)
    accepted = tester.complete_by_token(tester.callback_token(run.id, "waits"), 6)

    assert (of_the_old_generation, accepted, run.output()) == (False, True, 6)


@pytest.mark.parametrize(
    "spoil", ["", "x", "a.b.c", "é.1.é", "\ud800.9999999999.x", "a.1.\ud800", "swap", "extend", "expire"]
)
def test_a_token_that_is_forged_malformed_or_expired_is_refused(start: Start, spoil: str) -> None:
    tester, run = begun(start, polled(), signing_key="k")
    tester.deliver()
    token = tester.callback_token(run.id, "waits", valid_for=timedelta(hours=1))
    body, expiry, signature = token.split(".")
    spoilt = {"swap": f"{body[::-1]}.{expiry}.{signature}", "extend": f"{body}.{int(expiry) + 1}.{signature}"}
    if spoil == "expire":
        tester.advance(timedelta(hours=1, seconds=2))

    with pytest.raises(InvalidRequestError, match="not valid"):
        tester.complete_by_token(token if spoil == "expire" else spoilt.get(spoil, spoil), 5)

    assert stage_of(run, "waits").status is StageStatus.SUSPENDED


@pytest.mark.parametrize("is_told", ["while the body runs", "when the stage waits"])
def test_a_body_makes_the_token_that_completes_its_own_stage_run(start: Start, is_told: str) -> None:
    tokens: list[str] = []

    def body(ctx: Any) -> Any:
        tokens.append(ctx.callback_token(valid_for=timedelta(hours=1)))
        if is_told == "while the body runs":
            assert tester.complete_by_token(tokens[0], 5)
        return Suspend(7)

    waiting = define_async_batch_stage(
        id="waits", execute=body, check=lambda _: Pending(), input=int, output=int, state=int
    )
    tester, run = begun(start, waiting, signing_key="k")

    performed = tester.deliver()
    accepted = tester.complete_by_token(tokens[0], 5)

    was_first = is_told == "when the stage waits"
    assert (performed.result, accepted) == ("suspended" if was_first else "discarded", was_first)
    assert (stage_of(run, "waits").status, run.output()) == (StageStatus.COMPLETED, 5)


def test_a_poll_makes_a_token_of_the_same_stage_run(start: Start) -> None:
    def check(ctx: Any) -> Any:
        tokens.append(ctx.callback_token())
        return Pending()

    tokens: list[str] = []
    tester, run = begun(start, polled(check=check), signing_key="k")
    tester.deliver()
    tester.advance(timedelta(minutes=1))
    tester.run_until_idle()

    accepted = tester.fail_by_token(tokens[0], "refused")

    assert accepted
    assert stage_of(run, "waits").error.message == "refused"


def test_a_body_that_wants_a_token_without_signing_key_fails_and_is_told_the_setting(start: Start) -> None:
    tester, run = begun(start, step("a", lambda ctx: ctx.callback_token(), retry=Retry(max_attempts=1)))

    tester.deliver()

    assert stage_of(run, "a").error.message.endswith("set WORKFLOW_ENGINE_SIGNING_KEY")


@pytest.mark.parametrize("report", ["complete", "fail"])
def test_a_token_of_an_attempt_that_failed_is_refused_until_the_next_one_begins(start: Start, report: str) -> None:
    tokens: list[str] = []

    def body(ctx: Any) -> Any:
        tokens.append(ctx.callback_token())
        if ctx.attempt == 1:
            raise ConnectionError("after the work was handed over")
        return Suspend(7)

    waiting = define_async_batch_stage(
        id="waits", execute=body, check=lambda _: Pending(), input=int, output=int, state=int
    )
    tester, run = begun(start, waiting, signing_key="k")
    tester.deliver()

    with pytest.raises(RunStateError, match="waits for its next attempt"):
        report_with(tester, report)(run.id, "waits")

    tester.advance(timedelta(minutes=1))
    tester.run_until_idle()
    assert tester.complete_by_token(tokens[0], 5)


def report_with(tester: WorkflowTester, report: str) -> Callable[[str, str], bool]:
    if report == "complete":
        return lambda run_id, stage: tester.complete_stage(run_id, stage, 5)
    return lambda run_id, stage: tester.fail_stage(run_id, stage, "no")


def test_an_empty_signing_key_is_none(start: Start) -> None:
    tester = start(chain(step("a")), signing_key="")

    with pytest.raises(ConfigurationError, match="signing key"):
        read_token(tester.engine, "x.1.y")
