"""Every legal and every forbidden move, and claims."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.contract.engine.stages import chain, step
from workflow_engine.definition import Pending, Suspend, define_async_batch_stage
from workflow_engine.engine import execute_stage
from workflow_engine.errors import ErrorCode, StoreError
from workflow_engine.lifecycle import RUN_MOVES, STAGE_MOVES, Move, RunStatus, StageStatus
from workflow_engine.store.connection.database import Database
from workflow_engine.store.moves import run_moves, stage_moves
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.records import NOTHING_REPORTED, ClaimKind, ClaimRequest, StageFailure
from workflow_engine.store.schema.tables import metadata, outputs, runs, stages
from workflow_engine.testing.kit import WorkflowTester

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.store.records import StageRow

    Start = Callable[..., WorkflowTester]


STATUSES = tuple(StageStatus)
BEFORE: dict[str, Any] = {
    "PENDING": {},
    "RUNNING": {"lease_id": "n", "lease_until": 9_000_000_000_000},
    "SUSPENDED": {"next_poll_at": 1},
    "COMPLETED": {"completed_at": 9_000_000_000_000},
    "FAILED": {"completed_at": 9_000_000_000_000, "error_code": "STAGE_ERROR"},
    "CANCELLED": {"completed_at": 9_000_000_000_000},
    "SKIPPED": {"completed_at": 9_000_000_000_000},
}
FAILURE = StageFailure(ErrorCode.STAGE_ERROR, "ValueError", "no")
SUSPENSION = stage_moves.Suspension("1", "poll", None, poll_interval_ms=1, next_poll_at=1, max_wait_until=1)

#: How each arrow of a stage run is called, by its name.
STAGE_ARROWS: dict[str, Callable[[LockedRun, StageRow], None]] = {
    "claim": lambda run, stage: stage_moves.claim(run, stage, request_for(stage.id, "nonce-1")),
    "claim_poll": lambda run, stage: stage_moves.claim_poll(run, stage, request_for(stage.id, "nonce-1")),
    "complete": lambda run, stage: stage_moves.complete(run, stage, "1", NOTHING_REPORTED),
    "suspend": lambda run, stage: stage_moves.suspend(run, stage, SUSPENSION, NOTHING_REPORTED),
    "not_ready": lambda run, stage: stage_moves.not_ready(run, stage, delay_ms=0, report=NOTHING_REPORTED),
    "retry": lambda run, stage: stage_moves.retry(run, stage, FAILURE, delay_ms=0, report=NOTHING_REPORTED),
    "release": lambda run, stage: stage_moves.release(run, stage, 0, NOTHING_REPORTED, None),
    "release_poll": lambda run, stage: stage_moves.release_poll(run, stage, 0, NOTHING_REPORTED, None),
    "reap": lambda run, stage: stage_moves.reap(run, stage, delay_ms=0),
    "reap_poll": stage_moves.reap_poll,
    "fail": lambda run, stage: stage_moves.fail(run, stage, FAILURE, None),
    "skip": lambda run, stage: stage_moves.skip(run, stage, NOTHING_REPORTED),
    "cancel": stage_moves.cancel,
}
#: How each arrow of a run is called, by its name.
RUN_ARROWS: dict[str, Callable[[LockedRun], None]] = {
    "start": run_moves.start,
    "complete": lambda run: run_moves.complete(run, 1),
    "fail": lambda run: run_moves.fail(run, FAILURE),
    "cancel": lambda run: run_moves.cancel(run, None),
    "rerun": lambda run: run_moves.rerun(run, run_moves.NewGeneration("[]", 0, None, {})),
}


class Undo(Exception):  # noqa: N818 - no error: it ends a transaction that is to leave nothing
    """Carries what was seen out of a transaction that is rolled back."""


def try_and_undo(database: Database, work: Callable[[Any], Any]) -> Any:
    def attempt(tx: Any) -> None:
        raise Undo(work(tx))

    with pytest.raises(Undo) as seen:
        database.transact(attempt)
    return seen.value.args[0]


def lock(tx: Any, stage_run_id: str) -> tuple[LockedRun, StageRow]:
    run = LockedRun.of_stage_run(tx, stage_run_id)
    stage = run.stage_run(stage_run_id) if run else None
    assert run is not None
    assert stage is not None
    return run, stage


@pytest.mark.parametrize("status", STATUSES)
def test_a_stage_run_makes_the_moves_of_the_table_and_no_other(database: Database, status: StageStatus) -> None:
    stage_run_id = put_stage_run(database, status)

    def make(move: Move[StageStatus]) -> Callable[[Any], str]:
        def work(tx: Any) -> str:
            try:
                STAGE_ARROWS[move.name](*lock(tx, stage_run_id))
            except StoreError as error:
                return str(error)
            return str(tx.scalar(sa.select(stages.c.status)))

        return work

    seen = {move.name: try_and_undo(database, make(move)) for move in STAGE_MOVES}

    for move in STAGE_MOVES:
        refused = f"is {status}; the move {move.name} is not allowed"
        assert seen[move.name].endswith(move.target if status in move.sources else refused)


@pytest.mark.parametrize("name", STAGE_ARROWS)
def test_a_move_with_an_old_fence_raises_and_changes_nothing(database: Database, name: str) -> None:
    [status, *_] = next(move.sources for move in STAGE_MOVES if move.name == name)
    stage_run_id = put_stage_run(database, status)
    before = every_row(database)

    def work(tx: Any) -> None:
        run, stage = lock(tx, stage_run_id)
        STAGE_ARROWS[name](run, replace(stage, fence=stage.fence - 1))

    with pytest.raises(StoreError, match=f"is not what was read of it; the move {name} is not made"):
        database.transact(work)

    assert every_row(database) == before


@pytest.mark.parametrize("status", [status for status in RunStatus if status is not RunStatus.SUSPENDED])
def test_a_run_makes_the_moves_of_the_table_and_no_other(database: Database, status: RunStatus) -> None:
    stage_run_id = put_stage_run(database, StageStatus.PENDING, run_status=status)

    def make(move: Move[RunStatus]) -> Callable[[Any], str]:
        def work(tx: Any) -> str:
            run, _ = lock(tx, stage_run_id)
            try:
                RUN_ARROWS[move.name](run)
            except StoreError as error:
                return str(error)
            run.save()
            return str(tx.scalar(sa.select(runs.c.status)))

        return work

    seen = {move.name: try_and_undo(database, make(move)) for move in RUN_MOVES}

    for move in RUN_MOVES:
        refused = f"is {status}; the move {move.name} is not allowed"
        assert seen[move.name].endswith(move.target if status in move.sources else refused)


def every_row(database: Database) -> list[Any]:
    return database.read(lambda tx: [tx.execute(table.select()).all() for table in metadata.sorted_tables])


def put_stage_run(database: Database, status: StageStatus, run_status: RunStatus = RunStatus.RUNNING) -> str:
    """Insert a run with one stage run, as PENDING ones are inserted, and force it into ``status``."""
    with WorkflowTester(chain(step("a")), database_url=str(database.url.render_as_string(hide_password=False))) as one:
        run = one.create_run("chain", 1)
        [stage] = run.list_stages()
    forced: dict[str, Any] = {"fence": 3, **BEFORE[status]}
    ended = {"completed_at": 9_000_000_000_000, "output_group": 1, "error_code": "X"}

    def work(tx: Any) -> None:
        if status is StageStatus.COMPLETED:
            forced["output_id"] = "an output"
            output = {"id": "an output", "run_id": run.id, "stage_id": "a", "payload": "1", "created_at": 1}
            tx.execute(outputs.insert().values(output))
        tx.execute(stages.update().values({"status": status.value, **forced}))
        tx.execute(runs.update().values({"status": run_status.value, **(ended if run_status.is_terminal else {})}))

    database.transact(work)
    return str(stage.id)


def test_a_claim_repeated_under_its_nonce_is_the_claim_that_was_made(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    request = request_for(run.list_stages()[0].id, "nonce-1")

    first = claim(tester.database, request)
    again = claim(tester.database, request)

    assert first is not None
    assert first == again
    assert (first.fence, first.attempt) == (1, 1)
    assert len(tester.list_attempts(run.id, "a")) == 1


def test_a_poll_claim_repeated_under_its_nonce_is_the_claim_that_was_made(start: Start) -> None:
    waits = define_async_batch_stage(
        id="a", execute=lambda _: Suspend(7), check=lambda _: Pending(), input=int, output=int, state=int
    )
    workflow = chain(waits)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    tester.deliver()
    tester.advance(timedelta(minutes=1))
    request = request_for(run.list_stages()[0].id, "nonce-1")

    first = claim(tester.database, request)
    again = claim(tester.database, request)

    assert first is not None
    assert first == again
    assert (first.kind, first.fence, first.polls) == (ClaimKind.POLL, 2, 1)


def test_a_second_claimant_gets_nothing(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    stage_run_id = run.list_stages()[0].id

    first = claim(tester.database, request_for(stage_run_id, "nonce-1"))
    second = claim(tester.database, request_for(stage_run_id, "nonce-2"))

    assert first is not None
    assert second is None


@pytest.mark.parametrize("stage_run_id", ["", "nobody", "01a20346-47b8-79e4-9ea4-2633cc30ec0c", "'; DROP TABLE x"])
@pytest.mark.parametrize("number", [-1, 0, 2**63, 2**70])
def test_a_message_for_nothing_is_ignored(start: Start, stage_run_id: str, number: int) -> None:
    tester = start(chain(step("a")))

    performed = execute_stage(tester.engine, stage_run_id, number)

    assert performed.result == "ignored"


def test_a_message_with_another_number_is_as_good(start: Start) -> None:
    workflow = chain(step("a"))
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    performed = tester.deliver(replace(tester.messages.waiting[0], dispatch_number=77))

    assert (performed.result, run.output()) == ("completed", 1)


def request_for(stage_run_id: str, nonce: str) -> ClaimRequest:
    return ClaimRequest(stage_run_id, dispatch_number=1, nonce=nonce, worker_id="host:1:abc", lease_ms=30_000)
