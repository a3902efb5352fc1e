"""A move that the locked row refuses raises at once, and nothing of it is written.

Each path of the engine is taken with the source that it starts from missing in the table of moves, on each database.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import (
    Pending,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
)
from workflow_engine.engine import (
    StageKey,
    cancel_run,
    complete_stage,
    execute_stage,
    fail_stage,
    reap_worker,
    rerun_run,
)
from workflow_engine.engine.decisions.outcomes import (
    Completed,
    Failed,
    Mismatched,
    NotReady,
    Outcome,
    Released,
    Retrying,
    Skipped,
    Suspended,
)
from workflow_engine.engine.transitions.finish import finish
from workflow_engine.engine.transitions.release import release
from workflow_engine.engine.upkeep.expire import expire_queued, expire_runs, expire_suspensions
from workflow_engine.errors import ErrorCode, StoreError
from workflow_engine.lifecycle import RUN_MOVES, STAGE_MOVES, RunMove, RunStatus, StageMove, StageStatus
from workflow_engine.store.moves import claims
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.records import Claim, ClaimRequest, LogLine, NewAnnotation, Report, StageFailure
from workflow_engine.store.schema.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

FAILURE = StageFailure(ErrorCode.STAGE_ERROR, "ValueError", "no")
REPORT = Report(cost_nanos=5, logs=(LogLine(1, "info", "hello", "{}", 1),), annotations=(NewAnnotation("score", "1"),))
GRACE = timedelta(minutes=1)


def wait_for_it(_: StageContext[int]) -> Suspend[int]:
    return Suspend(7, poll_interval=timedelta(seconds=10), max_wait=timedelta(minutes=5))


WORKFLOW: Any = (
    WorkflowBuilder("one", input=int, deadline=timedelta(hours=1))
    .pipe(
        define_async_batch_stage(
            id="a",
            execute=wait_for_it,
            check=lambda _: Pending(),
            input=int,
            output=int,
            state=int,
            queue_timeout=timedelta(minutes=1),
            retry=Retry(max_attempts=1),
        )
    )
    .build()
)


@dataclass
class Scene:
    """A run of one stage, brought to where a path begins."""

    tester: WorkflowTester
    run_id: str
    stage_run_id: str
    taken: Claim | None = None

    def take(self) -> None:
        request = ClaimRequest(self.stage_run_id, 1, "nonce", self.tester.engine.worker_id, 30_000)
        self.taken = claims.claim(self.tester.database, request)

    def finish(self, outcome: Outcome) -> None:
        assert self.taken is not None
        finish(self.tester.engine, self.taken, outcome, REPORT, in_one_statement=False)

    def every_row(self) -> list[Any]:
        return self.tester.database.read(lambda tx: [tx.execute(one.select()).all() for one in metadata.sorted_tables])


def pending(scene: Scene) -> None:
    """Leave the stage run as it was inserted."""


def running(scene: Scene) -> None:
    scene.take()


def suspended(scene: Scene) -> None:
    scene.tester.deliver()
    scene.tester.advance(timedelta(seconds=30))


def polled(scene: Scene) -> None:
    suspended(scene)
    scene.take()


def asked_for_the_last_time(scene: Scene) -> None:
    scene.tester.deliver()
    scene.tester.advance(timedelta(minutes=6))
    expire_suspensions(scene.tester.engine)
    scene.tester.advance(timedelta(hours=25))


def completed(scene: Scene) -> None:
    running(scene)
    scene.finish(Completed("1"))


def failed(scene: Scene) -> None:
    running(scene)
    scene.finish(Failed(FAILURE))


def cancelled(scene: Scene) -> None:
    cancel_run(scene.tester.engine, scene.run_id)


def expired(duration: timedelta) -> Callable[[Scene], None]:
    def prepare(scene: Scene) -> None:
        scene.tester.advance(duration)

    return prepare


def with_outcome(outcome: Outcome) -> Callable[[Scene], None]:
    return lambda scene: scene.finish(outcome)


def deliver(scene: Scene) -> None:
    execute_stage(scene.tester.engine, scene.stage_run_id, 1)


def lose_the_worker(scene: Scene) -> None:
    reap_worker(scene.tester.engine, scene.tester.engine.worker_id)


def give_back(scene: Scene) -> None:
    assert scene.taken is not None
    release(scene.tester.engine, scene.taken.lease)


def tell_its_output(scene: Scene) -> None:
    complete_stage(scene.tester.engine, StageKey(scene.run_id, "a"), 1)


def tell_its_failure(scene: Scene) -> None:
    fail_stage(scene.tester.engine, StageKey(scene.run_id, "a"), "no")


def cancel(scene: Scene) -> None:
    cancel_run(scene.tester.engine, scene.run_id)


def pass_the_deadline(scene: Scene) -> None:
    expire_runs(scene.tester.engine)


def rerun(scene: Scene) -> None:
    rerun_run(scene.tester.engine, scene.run_id, from_stage="a")


MISMATCHED = Mismatched(FAILURE, GRACE)
NOT_READY = NotReady(None, None)
SUSPENDED = Suspended("7", "poll", None, wait_ms=1, interval_ms=1, max_wait_ms=1)
HOURS = timedelta(hours=2)


@dataclass(frozen=True)
class Path:
    """What the engine does in a scene, and the arrow that it takes."""

    table: Any
    name: str
    source: str
    prepare: Callable[[Scene], None]
    act: Callable[[Scene], None]

    def __str__(self) -> str:
        return f"{self.table.__name__}.{self.name}-{self.source}"


PATHS = [
    Path(StageMove, "CLAIM", "PENDING", pending, deliver),
    Path(StageMove, "COMPLETE", "RUNNING", running, with_outcome(Completed("1"))),
    Path(StageMove, "COMPLETE", "RUNNING", running, tell_its_output),
    Path(StageMove, "COMPLETE", "SUSPENDED", polled, with_outcome(Completed("1"))),
    Path(StageMove, "COMPLETE", "SUSPENDED", suspended, tell_its_output),
    Path(StageMove, "SUSPEND", "RUNNING", running, with_outcome(SUSPENDED)),
    Path(StageMove, "CLAIM_POLL", "SUSPENDED", suspended, deliver),
    Path(StageMove, "NOT_READY", "SUSPENDED", polled, with_outcome(NOT_READY)),
    Path(StageMove, "RETRY", "RUNNING", running, with_outcome(Retrying(FAILURE, 1000))),
    Path(StageMove, "RELEASE", "RUNNING", running, with_outcome(Released())),
    Path(StageMove, "RELEASE", "RUNNING", running, with_outcome(MISMATCHED)),
    Path(StageMove, "RELEASE", "RUNNING", running, give_back),
    Path(StageMove, "RELEASE_POLL", "SUSPENDED", polled, with_outcome(Released())),
    Path(StageMove, "RELEASE_POLL", "SUSPENDED", polled, with_outcome(MISMATCHED)),
    Path(StageMove, "RELEASE_POLL", "SUSPENDED", polled, give_back),
    Path(StageMove, "REAP", "RUNNING", running, lose_the_worker),
    Path(StageMove, "REAP_POLL", "SUSPENDED", polled, lose_the_worker),
    Path(StageMove, "FAIL", "PENDING", expired(HOURS), lambda scene: expire_queued(scene.tester.engine)),
    Path(StageMove, "FAIL", "RUNNING", running, with_outcome(Failed(FAILURE))),
    Path(StageMove, "FAIL", "RUNNING", running, tell_its_failure),
    Path(StageMove, "FAIL", "SUSPENDED", polled, with_outcome(Failed(FAILURE))),
    Path(StageMove, "FAIL", "SUSPENDED", polled, with_outcome(replace(NOT_READY, state="8", expiry=FAILURE))),
    Path(StageMove, "FAIL", "SUSPENDED", suspended, tell_its_failure),
    Path(
        StageMove, "FAIL", "SUSPENDED", asked_for_the_last_time, lambda scene: expire_suspensions(scene.tester.engine)
    ),
    Path(StageMove, "SKIP", "RUNNING", running, with_outcome(Skipped())),
    Path(StageMove, "CANCEL", "PENDING", pending, cancel),
    Path(StageMove, "CANCEL", "PENDING", expired(HOURS), pass_the_deadline),
    Path(StageMove, "CANCEL", "RUNNING", running, cancel),
    Path(StageMove, "CANCEL", "SUSPENDED", suspended, cancel),
    Path(RunMove, "START", "PENDING", pending, deliver),
    Path(RunMove, "COMPLETE", "RUNNING", running, with_outcome(Completed("1"))),
    Path(RunMove, "FAIL", "PENDING", expired(HOURS), lambda scene: expire_queued(scene.tester.engine)),
    Path(RunMove, "FAIL", "PENDING", expired(HOURS), pass_the_deadline),
    Path(RunMove, "FAIL", "RUNNING", running, with_outcome(Failed(FAILURE))),
    Path(RunMove, "CANCEL", "PENDING", pending, cancel),
    Path(RunMove, "CANCEL", "RUNNING", running, cancel),
    Path(RunMove, "RERUN", "COMPLETED", completed, rerun),
    Path(RunMove, "RERUN", "FAILED", failed, rerun),
    Path(RunMove, "RERUN", "CANCELLED", cancelled, rerun),
]


@pytest.mark.parametrize("path", PATHS, ids=[f"{number}-{path}" for number, path in enumerate(PATHS)])
def test_a_path_whose_arrow_may_not_start_there_raises_and_writes_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    tester = start(WORKFLOW)
    run = tester.create_run(WORKFLOW, 1)
    scene = Scene(tester, run.id, run.list_stages()[0].id)
    # The statements that PostgreSQL has for claims and completions are composed of the tables when they are imported;
    # and nothing is claimed that, by the tables, does not wait for a claim.
    monkeypatch.setattr(moves_postgres, "claim", lambda *_: None)
    monkeypatch.setattr(claims, "_may_be_claimed", lambda *_: True)
    path.prepare(scene)
    before = scene.every_row()
    move = getattr(path.table, path.name)
    assert path.source in move.sources
    monkeypatch.setattr(path.table, path.name, replace(move, sources=move.sources - {path.source}))

    with pytest.raises(StoreError, match=f"is {path.source}; the move {move.name} is not allowed"):
        path.act(scene)

    assert scene.every_row() == before


def test_the_paths_take_every_arrow_from_everywhere() -> None:
    taken = {(path.table, path.name.lower(), path.source) for path in PATHS}

    assert taken == {
        *((StageMove, move.name, StageStatus(source).value) for move in STAGE_MOVES for source in move.sources),
        *((RunMove, move.name, RunStatus(source).value) for move in RUN_MOVES for source in move.sources),
    }


def test_a_body_whose_output_the_row_refuses_fails_with_the_cause(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    tester = start(WORKFLOW)
    run = tester.create_run(WORKFLOW, 1)
    move = StageMove.SUSPEND
    monkeypatch.setattr(StageMove, "SUSPEND", replace(move, sources=frozenset()))

    performed = tester.deliver()

    stage = run.list_stages()[0]
    assert (performed.result, stage.status, stage.error.code) == ("failed", "FAILED", "NOT_RECORDED")
    assert "is RUNNING; the move suspend is not allowed" in stage.error.message
