"""Once ``pause_workflow`` has returned nothing of the workflow is claimed, whatever waited for what meanwhile."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from workflow_engine.engine import pause_workflow, resume_workflow
from workflow_engine.engine.decisions.outcomes import Suspended
from workflow_engine.engine.transitions.finish import finish
from workflow_engine.store.moves import claims
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.records import Report

if TYPE_CHECKING:
    from workflow_engine.store.records import Claim

SUSPENDED = Suspended("1", "poll", None, 0, 0, 600_000)
IN_THE_SNAPSHOT = "NOT EXISTS (SELECT 1 FROM workflow_controls c WHERE c.workflow_id = locked_run.workflow_id)"


def create(course: Any, kind: str) -> tuple[str, str]:
    """Create a run whose first stage waits for its attempt, or for its poll."""
    run_id = course.create("narrow")
    [stage_run_id] = course.stage_runs(run_id)
    if kind == "poll":
        finish(course.engine, course.claim(stage_run_id), SUSPENDED, Report())
    return run_id, stage_run_id


def claim_while_paused(course: Any, kind: str) -> Claim | None:
    """Claim; while the claim waits for the run's row, pause the workflow."""
    run_id, stage_run_id = create(course, kind)
    claimed: list[Claim | None] = course.race_for_row(
        run_id, partial(course.claim, stage_run_id), partial(pause_workflow, course.engine, "narrow")
    )
    return claimed[0]


@pytest.mark.parametrize("kind", ["attempt", "poll"])
def test_a_claim_that_waited_while_its_workflow_was_paused_takes_nothing(postgres_course: Any, kind: str) -> None:
    assert claim_while_paused(postgres_course, kind) is None

    resume_workflow(postgres_course.engine, "narrow")


def test_asking_for_the_pause_in_the_snapshot_from_before_the_wait_would_take_it(
    postgres_course: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = moves_postgres._CLAIM.text
    asked = statement.replace("NOT workflow_is_paused(locked_run.workflow_id)", IN_THE_SNAPSHOT)
    monkeypatch.setattr(moves_postgres, "_CLAIM", sa.text(asked))

    assert asked != statement
    assert claim_while_paused(postgres_course, "attempt") is not None


@pytest.mark.parametrize("form", [moves_postgres.claim, claims._claim], ids=["one statement", "several"])
def test_a_pause_returns_after_the_claims_that_it_was_too_late_for(postgres_course: Any, form: Any) -> None:
    course = postgres_course
    _, stage_run_id = create(course, "attempt")
    taken: list[Claim | None] = []

    def seen_by_the_pause() -> str:
        pause_workflow(course.engine, "narrow")
        return str(course.stage_runs(taken[0].run_id)[stage_run_id]) if taken[0] else "not claimed"

    [seen] = course.race_during(
        lambda tx: taken.append(form(tx, course.claim_request(stage_run_id))), seen_by_the_pause
    )

    assert seen == "RUNNING"


def test_of_a_pause_and_claims_at_once_none_is_later_than_the_pause(course: Any) -> None:
    for _ in range(5):
        pending = [create(course, "attempt")[1] for _ in range(7)]

        def pause(pending: list[str] = pending) -> int:
            pause_workflow(course.engine, "narrow")
            return count_running(course, pending)

        *taken, running = course.race(*(partial(course.claim, one) for one in pending), pause)
        resume_workflow(course.engine, "narrow")

        assert running == sum(one is not None for one in taken)


def count_running(course: Any, stage_run_ids: list[str]) -> int:
    query = sa.text("SELECT id FROM workflow_stages WHERE status = 'RUNNING'")
    running = set(course.database.read(lambda tx: tx.scalars(query).all()))
    return len(running.intersection(stage_run_ids))
