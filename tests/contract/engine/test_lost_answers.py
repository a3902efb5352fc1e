"""Commits whose answer was lost, and results that come too late: each thing happens once."""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from tests.contract.engine.stages import chain, step
from workflow_engine.definition import Pending, Retry, Suspend, define_async_batch_stage
from workflow_engine.engine import reap_worker
from workflow_engine.errors import RunStateError
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.schema.tables import runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

#: The package has a function of this name.
pruning = importlib.import_module("workflow_engine.engine.upkeep.prune")


class LostAnswers:
    """Lets a commit take effect and then loses its answer, as a connection does that breaks at that moment."""

    def __init__(self, tester: WorkflowTester, patch: pytest.MonkeyPatch) -> None:
        self.database = tester.database
        self.patch = patch
        self.lost = 0

    def lose(self, how_often: int = 1) -> None:
        """Lose the answers to the next commits that change something."""
        original = {name: getattr(self.database, name) for name in ("transact", "execute_one")}
        left = how_often

        def unsure(name: str) -> Callable[..., Any]:
            def call(work: Callable[..., Any], **options: Any) -> Any:
                nonlocal left
                result = original[name](work, **options)
                if left > 0:
                    left -= 1
                    self.lost += 1
                    return original[name](work, **options)  # the answer was lost, so the same call is made again
                return result

            return call

        for name in original:
            self.patch.setattr(self.database, name, unsure(name))


@pytest.fixture
def lost_answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[WorkflowTester], LostAnswers]:
    return lambda tester: LostAnswers(tester, monkeypatch)


def break_connection_after_commit(tester: WorkflowTester, patch: pytest.MonkeyPatch) -> list[str]:
    """Make the driver's next commit take effect and raise, once, below everything of ours."""
    broken: list[str] = []
    dialect = tester.database.pool.dialect
    original = dialect.do_commit

    def commit(connection: Any) -> None:
        original(connection)
        if not broken:
            broken.append("commit")
            raise_lost_connection(tester)

    patch.setattr(dialect, "do_commit", commit)
    return broken


def raise_lost_connection(tester: WorkflowTester) -> None:
    if tester.database.is_postgres:
        raise psycopg2.OperationalError("server closed the connection unexpectedly")
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    raise error


def test_the_driver_may_lose_the_answer_to_a_create(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    broken = break_connection_after_commit(tester, monkeypatch)

    run = tester.create_run(workflow, 1, idempotency_key="k")
    same = tester.create_run(workflow, 1, idempotency_key="k")

    assert broken == ["commit"]
    assert same.id == run.id
    assert len(tester.list_runs().items) == 1


def test_a_create_whose_answer_was_lost_is_sent_by_the_sweep(start: Start, lost_answers: Any) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    lost_answers(tester).lose()

    run = tester.create_run(workflow, 1)
    sent = list(tester.messages.waiting)
    tester.advance(timedelta(seconds=25))
    tester.run_until_idle()

    assert sent == []
    assert (len(tester.list_runs().items), run.output()) == (1, 1)


def test_a_claim_whose_answer_was_lost_is_one_attempt(start: Start, lost_answers: Any) -> None:
    workflow = chain(step("a", lambda ctx: ctx.attempt))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    answers = lost_answers(tester)
    answers.lose()

    performed = tester.deliver()

    assert (performed.result, answers.lost, run.output()) == ("completed", 1, 1)
    assert [one.fence for one in tester.list_attempts(run.id, "a")] == [1]


@pytest.mark.parametrize("outcome", ["completed", "failed", "retrying", "suspended", "skipped"])
def test_an_outcome_whose_answer_was_lost_is_recorded_once(start: Start, lost_answers: Any, outcome: str) -> None:
    def body(ctx: Any) -> Any:
        lost_answers(tester).lose()
        ctx.log.info("once")
        ctx.report(cost=1)
        ctx.annotate("seen", 1) if outcome == "failed" else None
        if outcome == "suspended":
            return Suspend(1)
        if outcome in {"failed", "retrying"}:
            raise ValueError if outcome == "failed" else ConnectionError
        return 1

    def skip(_: Any) -> bool:
        lost_answers(tester).lose()
        return outcome == "skipped"

    one = define_async_batch_stage(
        id="a", execute=body, check=lambda _: Pending(), input=int, output=int, state=int,
        retry=Retry(give_up_on=(ValueError,)), skip_if=skip if outcome == "skipped" else None,
    )  # fmt: skip
    workflow = chain(one, step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    performed = tester.deliver()

    first = run.list_stages()[0]
    assert performed.result == outcome
    assert len(tester.list_attempts(run.id, "a")) == 1
    lines = {"skipped": 0, "failed": 2, "retrying": 2}.get(outcome, 1)  # the body's, and one for a failed attempt
    assert (int(first.cost), len(run.list_logs().items)) == (outcome != "skipped", lines)
    assert len(tester.list_annotations(run.id)) == (outcome == "failed")
    tester.assert_consistent()


def test_an_advance_whose_answer_was_lost_happens_once_and_is_sent_by_the_sweep(
    start: Start, lost_answers: Any
) -> None:
    workflow = chain(step("a", lambda _: lost_answers(tester).lose() or 1), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver()
    after = [one.stage_id for one in run.list_stages()]
    tester.advance(timedelta(seconds=25))
    tester.run_until_idle()

    assert after == ["a", "b"]
    assert run.output() == 1


def test_a_rerun_whose_answer_was_lost_is_one_generation(start: Start, lost_answers: Any) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    lost_answers(tester).lose()

    tester.rerun(run.id, from_stage="b")

    assert run.snapshot().generation == 1
    assert [one.generation for one in run.list_stages(history=True)] == [0, 0, 1]


def break_before_commit(tester: WorkflowTester, patch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Let the next transaction be rolled back, let others act, and make the call again, as after a lost connection."""
    original = tester.database.transact

    def transact(work: Callable[..., Any]) -> Any:
        patch.setattr(tester.database, "transact", original)
        with contextlib.suppress(ConnectionError), tester.database.pool.begin() as tx:
            work(tx)
            raise ConnectionError
        meanwhile()
        return original(work)

    patch.setattr(tester.database, "transact", transact)


@pytest.mark.parametrize("ended", [False, True])
def test_a_rerun_that_did_not_happen_is_not_taken_for_the_one_that_somebody_else_made_meanwhile(
    start: Start, monkeypatch: pytest.MonkeyPatch, *, ended: bool
) -> None:
    def meanwhile() -> None:
        tester.rerun(run.id, from_stage="b")
        tester.run_until_idle() if ended else None

    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    break_before_commit(tester, monkeypatch, meanwhile)

    with pytest.raises(RunStateError, match="in generation 1"):
        tester.rerun(run.id, from_stage="a")

    assert [event.payload["from_stages"] for event in run.list_events() if str(event.type) == "run.rerun"] == [["b"]]


def test_a_rerun_whose_answer_was_lost_is_accepted_also_when_it_has_ended_meanwhile(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    original = tester.database.transact

    def transact(work: Callable[..., Any]) -> Any:
        monkeypatch.setattr(tester.database, "transact", original)
        original(work)
        tester.transition_workflow(run.id)
        tester.run_until_idle()
        tester.rerun(run.id, from_stage="a")
        return original(work)

    monkeypatch.setattr(tester.database, "transact", transact)
    tester.rerun(run.id, from_stage="b")

    assert run.snapshot().generation == 2


def test_a_line_from_outside_whose_answer_was_lost_is_written_once(start: Start, lost_answers: Any) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    log = tester.create_log_context(run.id, "a")
    lost_answers(tester).lose(2)

    log.info("same")
    log.info("same")

    assert [(entry.line, entry.message) for entry in run.list_logs().items] == [(1, "same"), (2, "same")]


def test_a_deletion_of_runs_whose_answer_was_lost_counts_them_and_goes_on(
    start: Start, lost_answers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_BATCH", 2)
    workflow = chain(step("a"))
    tester = start(workflow)
    for _ in range(5):
        tester.create_run(workflow, 1)
    tester.run_until_idle()
    tester.advance(timedelta(seconds=1))
    lost_answers(tester).lose()
    deleted = tester.prune(timedelta(0), ["COMPLETED"])
    assert (deleted, tester.list_runs().items) == (5, ())


def test_a_cancel_whose_answer_was_lost_still_ends_the_processes(start: Start, lost_answers: Any) -> None:
    def body(_: Any) -> int:
        lost_answers(tester).lose()
        tester.cancel(run.id, terminate=True)
        return 1

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver()

    assert [hint.stage_id for hint in tester.messages.terminated] == ["a"]


def test_a_fork_whose_answer_was_lost_is_one_run(start: Start, lost_answers: Any) -> None:
    workflow = chain(step("a"), step("b"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    lost_answers(tester).lose()

    fork = tester.fork(run.id, from_stage="b")
    tester.advance(timedelta(seconds=25))
    tester.run_until_idle()

    assert len(tester.list_runs().items) == 2
    assert fork.output() == 1


def test_a_push_whose_answer_was_lost_says_that_it_was_accepted(start: Start, lost_answers: Any) -> None:
    one = define_async_batch_stage(
        id="a", execute=lambda _: Suspend(1), check=lambda _: Pending(), input=int, output=int, state=int
    )
    workflow = chain(one)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    lost_answers(tester).lose()

    accepted = tester.complete_stage(run.id, "a", 5)
    second = tester.complete_stage(run.id, "a", 6)

    assert (accepted, second, run.output()) == (True, False, 5)


@pytest.mark.parametrize("command", ["cancel", "pause"])
def test_other_commands_whose_answer_was_lost_happen_once(start: Start, lost_answers: Any, command: str) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    lost_answers(tester).lose()

    getattr(tester, command)(run.id)

    told = [str(event.type) for event in run.list_events()]
    assert told.count("run.cancelled") + told.count("run.paused") == 1


def test_a_result_for_a_run_that_was_deleted_meanwhile_is_discarded(start: Start) -> None:
    def body(ctx: Any) -> int:
        ctx.log.info("late")
        run.cancel()
        tester.database.transact(lambda tx: tx.execute(runs.delete()))
        return 1

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    assert tester.deliver().result == "discarded"
    assert tester.list_runs().items == ()


@pytest.mark.parametrize("how", ["reap", "cancel", "rerun", "callback"])
def test_a_late_result_is_discarded(start: Start, how: str) -> None:
    taken: list[int] = []

    def body(ctx: Any) -> str:
        if ctx.fence == 1 and not taken:
            taken.append(1)
            take_away[how]()
            ctx.log.info("late")
        return f"fence {ctx.fence}"

    def rerun() -> None:
        run.cancel()
        run.rerun(from_stage="a")

    take_away: dict[str, Callable[[], Any]] = {
        "reap": lambda: reap_worker(tester.engine, tester.engine.worker_id),
        "cancel": lambda: tester.cancel(run.id),
        "rerun": rerun,
        "callback": lambda: tester.complete_stage(run.id, "a", "told"),
    }
    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    performed = tester.deliver()
    tester.run_until_idle()

    expected = {"reap": "fence 3", "rerun": "fence 1", "callback": "told"}
    assert performed.result == "discarded"
    assert (run.status is RunStatus.CANCELLED) if how == "cancel" else (run.output() == expected[how])
