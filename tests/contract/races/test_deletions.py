"""What is written for a run that is being deleted is written before, or not at all; nothing is left behind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from workflow_engine.engine import cancel_run, fork_run
from workflow_engine.errors import RunNotFoundError
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.moves.attempt_reports import flush_log_lines
from workflow_engine.store.reads.annotations import add_annotation
from workflow_engine.store.reads.artifacts import save_artifact
from workflow_engine.store.reads.logs import append_log
from workflow_engine.store.records import LogLine
from workflow_engine.store.schema.tables import artifacts, logs, outputs, runs
from workflow_engine.store.upkeep.retention import prune_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

LATER = 10**15
LINE = LogLine(1, "info", "late", "{}", 1)


def race_deletion(course: Any, run_id: str, work: Callable[[Connection], Any]) -> Any:
    """Delete the run; while that is not committed, do the work in a transaction of its own."""
    return race_deletion_with(course, run_id, lambda: course.database.transact(work))


def race_deletion_with(course: Any, run_id: str, call: Callable[[], Any]) -> Any:
    """Delete the run; while that is not committed, make the call."""
    delete = runs.delete().where(runs.c.id == run_id)
    [result] = course.race_during(lambda tx: tx.execute(delete), call)
    return result


def test_an_annotation_for_a_run_that_is_being_deleted_is_refused(postgres_course: Any) -> None:
    run_id = postgres_course.create("narrow")
    add = partial(add_annotation, annotation_id=new_id(), run_id=run_id, key="k", value="1", actor="api")

    with pytest.raises(RunNotFoundError):
        race_deletion(postgres_course, run_id, add)


def test_a_line_from_outside_for_a_run_that_is_being_deleted_is_not_written(postgres_course: Any) -> None:
    run_id = postgres_course.create("narrow")
    append = partial(append_log, postgres_course.database, run_id, "a", level="info", message="late")

    assert race_deletion_with(postgres_course, run_id, append) is False


def test_lines_of_a_body_whose_run_is_being_deleted_are_dropped(postgres_course: Any) -> None:
    run_id = postgres_course.create("narrow")
    [taken] = postgres_course.claim_all(run_id)

    race_deletion(postgres_course, run_id, partial(flush_log_lines, claim=taken, lines=[LINE]))

    assert postgres_course.database.read(lambda tx: tx.scalars(sa.select(logs.c.line)).all()) == []


def test_a_run_and_its_fork_that_are_pruned_at_once_leave_no_output(postgres_course: Any) -> None:
    course = postgres_course
    run_id = course.create("narrow")
    for _ in range(2):
        for taken in course.claim_all(run_id):
            course.complete(taken)
    fork = fork_run(course.engine, run_id, from_stage="last").run_id
    cancel_run(course.engine, fork)
    prune = partial(prune_batch, ended_before=LATER, limit=10)

    course.race_during(
        lambda tx: prune(tx, RunStatus.COMPLETED),
        lambda: course.database.transact(lambda tx: prune(tx, RunStatus.CANCELLED)),
    )
    course.database.transact(lambda tx: prune(tx, RunStatus.CANCELLED))  # the next pruning takes what was locked

    assert course.database.read(lambda tx: tx.scalars(sa.select(outputs.c.id)).all()) == []


@pytest.mark.parametrize("first", [RunStatus.COMPLETED, RunStatus.CANCELLED])
def test_a_run_with_artifacts_and_its_fork_that_are_pruned_at_once_break_nothing(
    postgres_course: Any, first: RunStatus
) -> None:
    course = postgres_course
    run_id = course.create("narrow")
    for _ in range(2):
        for taken in course.claim_all(run_id):
            save_artifact(course.database, taken, "page", "1", shared=False)
            course.complete(taken)
    cancel_run(course.engine, fork_run(course.engine, run_id, from_stage="last").run_id)
    prune = partial(prune_batch, ended_before=LATER, limit=10)
    second = ({RunStatus.COMPLETED, RunStatus.CANCELLED} - {first}).pop()

    course.race_during(lambda tx: prune(tx, first), lambda: course.database.transact(lambda tx: prune(tx, second)))
    course.database.transact(lambda tx: prune(tx, second))

    for table in (artifacts, outputs, runs):
        assert course.database.read(lambda tx, table=table: tx.execute(sa.select(table)).all()) == []
