"""What must come out right whoever is first, done by threads at the same time. Nothing waits for time to pass."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.effort import EFFORT
from workflow_engine.engine import (
    CreateRun,
    cancel_run,
    create_run,
    reap_expired,
    rerun_run,
    sweep,
    wake,
    with_stage_run,
)
from workflow_engine.engine.decisions.outcomes import NotReady, Suspended
from workflow_engine.engine.transitions.finish import finish
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.moves.leases import renew_leases
from workflow_engine.store.records import NewAnnotation, Report
from workflow_engine.store.schema.tables import stages

if TYPE_CHECKING:
    from collections.abc import Callable

#: An annotation makes the completion take the statement by statement form on PostgreSQL, too.
SLOW = Report(annotations=(NewAnnotation("form", '"slow"'),))
FAST = Report()
LEASE_MS = 30_000
EXPIRED_MS = -1_000


def orders(*calls: Callable[[], Any]) -> list[tuple[Callable[[], Any], ...]]:
    """Return the calls in every order, because the first to start has a better chance."""
    return list(itertools.permutations(calls))


@pytest.mark.parametrize("reports", [[FAST] * 4, [SLOW] * 4, [FAST, SLOW, FAST, SLOW]], ids=["fast", "slow", "mixed"])
def test_four_finishers_that_waited_for_the_same_row_advance_the_group_once(
    postgres_course: Any, reports: list[Report]
) -> None:
    course = postgres_course
    for _ in range(8):
        run_id = course.create()
        claims = course.claim_all(run_id)

        accepted = course.race_for_row(
            run_id,
            *(partial(course.complete, *pair) for pair in zip(claims, reports, strict=True)),
        )

        assert accepted == [True] * 4
        assert course.run(run_id).current_group == 2
        assert course.sent(run_id, "last") == 1
        assert sorted(course.stage_runs(run_id).values()) == ["COMPLETED"] * 4 + ["PENDING"]


def test_counting_the_members_in_the_statement_that_waits_would_strand_the_run(
    postgres_course: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = postgres_course
    counted = "(SELECT count(*) FROM workflow_stages m WHERE m.run_id = locked_run.id AND m.status = 'RUNNING') = 1"
    statement = moves_postgres._COMPLETE.text.replace("locked_run.remaining = 1", counted)
    monkeypatch.setattr(moves_postgres, "_COMPLETE", sa.text(statement))
    run_id = course.create()

    course.race_for_row(run_id, *(partial(course.complete, taken) for taken in course.claim_all(run_id)))

    assert course.run(run_id).current_group == 1
    assert "04 a live run has an active stage run in its current group" in course.violations()
    cancel_run(course.engine, run_id)


def test_four_finishers_at_once_advance_the_group_once(course: Any) -> None:
    trials = EFFORT * (100 if course.database.is_postgres else 15)
    for trial in range(trials):
        run_id = course.create()
        claims = course.claim_all(run_id)

        report = SLOW if trial % 3 == 0 else FAST
        accepted = course.race(*(partial(course.complete, taken, report) for taken in claims))

        assert accepted == [True] * 4
        assert course.run(run_id).current_group == 2
        assert course.sent(run_id, "last") == 1


def test_of_a_claim_and_a_cancel_at_once_no_result_survives(course: Any) -> None:
    for trial in range(12 * EFFORT):
        run_id = course.create("narrow")
        [stage_run_id] = course.stage_runs(run_id)
        calls = (partial(course.claim, stage_run_id), partial(cancel_run, course.engine, run_id))

        results = course.race(*orders(*calls)[trial % 2])

        taken = next((result for result in results if hasattr(result, "fence")), None)
        assert course.run(run_id).status == "CANCELLED"
        assert course.stage_runs(run_id) == {stage_run_id: "CANCELLED"}
        assert taken is None or course.complete(taken) is False


def test_a_stage_run_is_claimed_by_one_of_eight(course: Any) -> None:
    for _ in range(10):
        run_id = course.create("narrow")
        [stage_run_id] = course.stage_runs(run_id)

        taken = course.race(*[partial(course.claim, stage_run_id)] * 8)

        assert sum(one is not None for one in taken) == 1


def test_either_the_reaper_or_the_late_result_wins(course: Any) -> None:
    for trial in range(12 * EFFORT):
        run_id = course.create("narrow")
        [taken] = course.claim_all(run_id, lease_ms=EXPIRED_MS)
        calls = (partial(reap_expired, course.engine), partial(course.complete, taken, SLOW if trial % 3 else FAST))

        results = course.race(*orders(*calls)[trial % 2])

        reaped, accepted = results if trial % 2 == 0 else reversed(results)
        assert (reaped, accepted) in {(0, True), (1, False)}
        assert course.run(run_id).current_group == (2 if accepted else 1)


def test_a_late_result_never_reaches_the_generation_of_a_rerun(course: Any) -> None:
    for trial in range(12 * EFFORT):
        run_id = course.create("narrow")
        [taken] = course.claim_all(run_id)
        cancel_run(course.engine, run_id)
        calls = (partial(rerun_run, course.engine, run_id, from_stage="a"), partial(course.complete, taken))

        results = course.race(*orders(*calls)[trial % 2])

        assert set(results) == {1, False}
        assert course.run(run_id).generation == 1
        assert list(course.stage_runs(run_id).values()) == ["PENDING"]


def test_two_reruns_at_once_start_one_generation(course: Any) -> None:
    for _ in range(10):
        run_id = course.create("narrow")
        cancel_run(course.engine, run_id)

        def rerun(run_id: str = run_id) -> str:
            try:
                rerun_run(course.engine, run_id, from_stage="a")
            except Exception as error:  # noqa: BLE001 - named below
                return type(error).__name__
            return "started"

        results = course.race(rerun, rerun)

        assert sorted(results) == ["RunStateError", "started"]
        assert course.run(run_id).generation == 1


def test_a_wake_up_at_the_moment_of_not_ready_is_heard(course: Any) -> None:
    for trial in range(12 * EFFORT):
        run_id = course.create("narrow")
        [body] = course.claim_all(run_id)
        finish(course.engine, body, Suspended("1", "poll", None, 0, 60_000, 600_000), FAST)
        poll = course.claim(body.stage_run_id)
        calls = (
            partial(finish, course.engine, poll, NotReady(None, None), FAST),
            partial(with_stage_run, course.engine, poll.stage_run_id, wake),
        )

        results = course.race(*orders(*calls)[trial % 2])

        assert results == [True, True]
        assert course.is_poll_due(poll.stage_run_id)


def test_of_two_first_sweeps_at_once_one_goes_on(course: Any) -> None:
    reports = course.race(partial(sweep, course.engine), partial(sweep, course.engine))

    assert sorted(report.skipped for report in reports) == [False, True]


def test_two_sweeps_at_once_reap_and_send_once(course: Any) -> None:
    taken = [course.claim_all(course.create("narrow"), lease_ms=EXPIRED_MS)[0] for _ in range(12)]

    reports = course.race(partial(sweep, course.engine, force=True), partial(sweep, course.engine, force=True))

    assert [report.errors for report in reports] == [{}, {}]
    assert sum(report.repaired.get("reaped", 0) for report in reports) == len(taken)
    assert all(course.sent(one.run_id, "a") == 2 for one in taken)


def test_two_sweeps_at_once_send_a_lost_message_once(course: Any) -> None:
    run_ids = [course.create("narrow") for _ in range(12)]
    long_ago = stages.update().values(
        dispatched_at=stages.c.dispatched_at - 60_000, available_at=stages.c.available_at - 90_000
    )
    course.database.transact(lambda tx: tx.execute(long_ago))

    course.race(partial(sweep, course.engine, force=True), partial(sweep, course.engine, force=True))

    assert [course.sent(run_id, "a") for run_id in run_ids] == [2] * len(run_ids)


def test_one_key_from_eight_threads_is_one_run(course: Any) -> None:
    for trial in range(5):
        request = CreateRun("narrow", 1, idempotency_key=f"key-{trial}")

        created = course.race(*[partial(create_run, course.engine, request)] * 8)

        assert len({one.run_id for one in created}) == 1
        assert sum(one.is_new for one in created) == 1


def test_cancels_heartbeats_and_finishing_groups_never_deadlock(postgres_course: Any) -> None:
    course = postgres_course
    for trial in range(15 * EFFORT):
        run_ids = [course.create() for _ in range(2)]
        claims = [taken for run_id in run_ids for taken in course.claim_all(run_id)]
        held = [taken.lease for taken in claims]
        is_over = threading.Event()

        course.race(
            partial(renew_until, is_over, course, held),
            partial(renew_until, is_over, course, held[::-1]),
            partial(complete_all, is_over, course, claims[0::2], SLOW if trial % 2 else FAST),
            partial(complete_all, is_over, course, claims[1::2], FAST),
            *(partial(cancel_run, course.engine, run_id) for run_id in run_ids),
        )

    assert course.errors["40P01"] == 0


def renew_until(is_over: threading.Event, course: Any, held: list[Any]) -> None:
    while not is_over.is_set():
        renew_leases(course.database, held, LEASE_MS)


def complete_all(is_over: threading.Event, course: Any, claims: list[Any], report: Report) -> None:
    for taken in claims:
        course.complete(taken, report)
    is_over.set()


def test_a_heartbeat_of_several_stage_runs_waits_for_none_of_them_while_it_holds_another(postgres_course: Any) -> None:
    course = postgres_course
    run_id = course.create()
    first, *others = course.stage_runs(run_id)
    claims = [course.claim(stage_run_id) for stage_run_id in (*others, first)]  # the first is physically the last

    course.race_behind(
        sa.select(stages.c.id).where(stages.c.id == first),
        lambda: cancel_run(course.engine, run_id),
        lambda: renew_leases(course.database, [taken.lease for taken in claims], LEASE_MS),
    )

    assert course.errors["40P01"] == 0
    assert course.run(run_id).status == "CANCELLED"
