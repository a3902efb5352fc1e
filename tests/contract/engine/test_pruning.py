"""Runs are pruned when nobody needs them any more, in portions that the database takes."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.contract.engine.stages import chain
from workflow_engine.definition import define_stage
from workflow_engine.errors import DatabaseUnavailableError
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.connection.call_limits import Limits
from workflow_engine.store.schema.tables import runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


#: The modules; the package has the functions under those names.
creating = importlib.import_module("workflow_engine.engine.commands.create_run")


pruning = importlib.import_module("workflow_engine.engine.upkeep.prune")


def test_a_key_whose_run_is_pruned_in_between_does_not_stand_for_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = chain(define_stage(id="a", execute=lambda _: 1, input=int, output=int))
    tester = start(workflow)
    tester.create_run(workflow, 1, idempotency_key="once")
    find = creating.find_by_idempotency_key

    def pruned_before_it_is_read(tx: Any, key: str) -> Any:
        tx.execute(sa.delete(runs).where(runs.c.idempotency_key == key))
        return find(tx, key)

    monkeypatch.setattr(creating, "find_by_idempotency_key", pruned_before_it_is_read)

    run = tester.create_run(workflow, 1, idempotency_key="once")

    assert run.status is RunStatus.PENDING
    tester.messages.waiting[:] = [hint for hint in tester.messages.waiting if hint.run_id == run.id]
    tester.run_until_idle()
    assert run.output() == 1


def test_runs_that_cannot_all_be_pruned_at_once_are_pruned_a_few_at_a_time(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that exceeds its time limit exceeds it at the next try, and at the next sweep, too."""
    workflow = chain(define_stage(id="a", execute=lambda _: 1, input=int, output=int))
    tester = start(workflow)
    for _ in range(12):
        tester.create_run(workflow, 1)
    tester.run_until_idle()
    tester.advance(timedelta(hours=1))
    prune_batch = pruning.prune_batch

    def times_out(tx: Any, status: Any, ended_before: int, limit: int) -> Any:
        if limit > 10:
            raise DatabaseUnavailableError("canceling statement due to statement timeout")
        return prune_batch(tx, status, ended_before, limit)

    monkeypatch.setattr(pruning, "prune_batch", times_out)

    assert pruning.prune(tester.engine, older_than=timedelta(minutes=1)) == 12


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_pruning_goes_on_with_fewer_runs_when_the_database_cancels_the_deletion_of_many(start: Start) -> None:
    workflow = chain(define_stage(id="a", execute=lambda _: 1, input=int, output=int))
    tester = start(workflow)
    for _ in range(12):
        tester.create_run(workflow, 1)
    tester.run_until_idle()
    tester.advance(timedelta(hours=1))
    slow = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.15); RETURN OLD; END';
    CREATE TRIGGER slow BEFORE DELETE ON workflow_runs FOR EACH ROW EXECUTE FUNCTION slow()"""
    tester.database.transact(lambda tx: tx.exec_driver_sql(slow))
    tester.database.limits = Limits(statement=timedelta(seconds=1))

    assert pruning.prune(tester.engine, older_than=timedelta(minutes=1)) == 12
