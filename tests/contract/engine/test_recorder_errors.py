"""Errors of the recorder are not errors of the body, and no error brings a database's texts into the records or logs."""

from __future__ import annotations

import importlib
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from workflow_engine.definition import Retry, StageContext, WorkflowBuilder, define_stage
from workflow_engine.engine import sweep
from workflow_engine.engine.transitions import finish
from workflow_engine.errors import DatabaseUnavailableError
from workflow_engine.store.connection.database import Database
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.moves import stage_moves
from workflow_engine.store.schema.tables import metadata
from workflow_engine.testing.kit import TurnedClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

SECRET = "s3cret-of-the-run"  # noqa: S105 - to be looked for
#: PostgreSQL quotes the row that it refuses: "Failing row contains (x, null, null, s3cret-of-the-run, null)".
REFUSED = sa.text("INSERT INTO workflow_outputs (id, payload) VALUES ('x', :payload)")
NOT_NULL = {"postgresql": "NotNullViolation (SQLSTATE 23502)", "sqlite": "IntegrityError: NOT NULL constraint failed"}


def report_all(ctx: StageContext[int]) -> int:
    ctx.log.info("a line")
    ctx.annotate("score", 1)
    ctx.report(cost=0.25, tokens=7, rows=2)
    return 1


def workflow_of(body: Any = report_all) -> Any:
    stage = define_stage(id="a", execute=body, input=int, output=Any, retry=Retry(max_attempts=1))
    return WorkflowBuilder("one", input=int).pipe(stage).build()


def refuse(run: Any, *_: Any, **__: Any) -> None:
    """Fail as the database does when a constraint is broken, with what must not be told in the message."""
    getattr(run, "tx", run).execute(REFUSED, {"payload": SECRET})


def everything(tester: WorkflowTester, caplog: pytest.LogCaptureFixture) -> str:
    """Return all records and all that was logged."""
    tables = metadata.tables.values()
    records = tester.database.read(lambda tx: [list(tx.execute(table.select())) for table in tables])
    return f"{records}\n{caplog.text}"


def stage_of(run: Any) -> Any:
    return run.list_stages()[0]


def reported(tester: WorkflowTester, run: Any) -> tuple[Any, ...]:
    """Return what the attempt left beside its outcome."""
    stage = stage_of(run)
    return (
        stage.cost,
        stage.tokens,
        [line.message for line in run.list_logs().items],
        [(note.key, note.value) for note in tester.list_annotations(run.id)],
    )


def test_what_one_form_cannot_record_the_other_does(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    complete, refusals = stage_moves.complete, iter([refuse])

    def refuse_once(*arguments: Any, **options: Any) -> None:
        next(refusals, complete)(*arguments, **options)

    workflow = workflow_of(lambda ctx: ctx.report(cost=0.25, tokens=7) or 1)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    if tester.database.is_postgres:
        monkeypatch.setattr(moves_postgres, "complete", refuse)
    else:
        monkeypatch.setattr(stage_moves, "complete", refuse_once)

    performed = tester.deliver()

    assert (performed.result, run.output()) == ("completed", 1)
    assert reported(tester, run)[:2] == (Decimal("0.25"), 7)
    assert [attempt.outcome for attempt in tester.list_attempts(run.id, "a")] == ["COMPLETED"]


def test_what_no_form_can_record_fails_the_stage_and_keeps_what_it_reported(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = workflow_of()
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    monkeypatch.setattr(moves_postgres, "complete", refuse)
    monkeypatch.setattr(stage_moves, "complete", refuse)

    performed = tester.deliver()

    error = stage_of(run).error
    expected = NOT_NULL[tester.database.pool.dialect.name]
    assert (performed.result, error.code, error.type) == ("failed", "NOT_RECORDED", "sqlalchemy.exc.IntegrityError")
    assert error.message.startswith(f"The attempt ended (completed), which could not be recorded: {expected}")
    assert "in refuse" in error.traceback
    assert reported(tester, run) == (Decimal("0.25"), 7, ["a line"], [("score", 1)])
    assert expected in caplog.text
    assert SECRET not in everything(tester, caplog)


def test_a_report_that_cannot_be_recorded_costs_what_it_says(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = workflow_of()
    tester = start(workflow)
    run = tester.create_run(workflow, 1)
    keep = finish.keep_report

    def refuse_annotations(tx: Any, claim: Any, report: Any, instant: int) -> None:
        if report.annotations:
            refuse(tx)
        keep(tx, claim, report, instant)

    monkeypatch.setattr(finish, "keep_report", refuse_annotations)

    performed = tester.deliver()

    assert (performed.result, stage_of(run).error.code) == ("failed", "NOT_RECORDED")
    assert reported(tester, run) == (Decimal("0.25"), 7, [], [])


def test_a_body_whose_own_statement_is_refused_tells_class_and_state_only(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def body(_: Any) -> int:
        try:
            tester.database.transact(refuse)
        except Exception as error:
            raise RuntimeError(f"could not save: {error}") from error
        return 1

    workflow = workflow_of(body)
    tester = start(workflow)
    run = tester.create_run(workflow, 1)

    tester.deliver()

    error = stage_of(run).error
    expected = NOT_NULL[tester.database.pool.dialect.name]
    assert (error.code, error.type) == ("STAGE_ERROR", "RuntimeError")
    assert error.message.startswith(f"could not save: {expected}")
    assert f"sqlalchemy.exc.IntegrityError: {expected}" in error.traceback
    assert SECRET not in everything(tester, caplog)


def test_a_step_of_the_sweep_that_fails_tells_class_and_state_only(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = workflow_of()
    tester = start(workflow)
    module = importlib.import_module(
        "workflow_engine.engine.upkeep.sweep"
    )  # the package exports a function of that name
    monkeypatch.setattr(module, "expire_runs", lambda engine: engine.database.transact(refuse))

    report = sweep(tester.engine, force=True)

    expected = f"IntegrityError: {NOT_NULL[tester.database.pool.dialect.name]}"
    assert report.errors["deadlines_passed"].startswith(expected)
    assert "deadlines_passed" in caplog.text
    assert "in refuse" in caplog.text
    assert SECRET not in everything(tester, caplog) + str(report)


def test_a_database_that_does_not_answer_is_named_by_class_and_state(postgres_url: str) -> None:
    database = Database(postgres_url, clock=TurnedClock())
    conflict = sa.text(f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}' USING ERRCODE = '40001'; END $$")

    with pytest.raises(DatabaseUnavailableError, match=r"does not answer: .* \(SQLSTATE 40001\)$") as caught:
        database.transact(lambda tx: tx.execute(conflict))

    assert SECRET not in str(caught.value)
    database.close()


def test_parameters_are_not_part_of_errors(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError) as caught:
        database.transact(lambda tx: tx.execute(REFUSED, {"payload": SECRET}))

    assert "parameters hidden" in str(caught.value)


@pytest.fixture(autouse=True)
def every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "workflow_engine")
