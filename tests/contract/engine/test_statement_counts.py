"""What a stage costs on PostgreSQL: two statements, two commits and one message, whatever the shape of the workflow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import sqlalchemy.orm

from workflow_engine.definition import GroupOutput, StageContext, WorkflowBuilder, define_stage
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.testing.kit import WorkflowTester

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow_engine.testing.services import PostgresServer

COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
def url(postgres_server: PostgresServer, migrated_postgres: str) -> Iterator[str]:
    url = postgres_server.create_database(template=migrated_postgres)
    yield url
    postgres_server.drop_database(url.rpartition("/")[2])


def talk(ctx: StageContext[Any]) -> int:
    ctx.log.info("hello", rows=3)
    ctx.log.info("again")
    ctx.report(cost=0.5, tokens=10, rows=3)
    return 1


def step(name: str, takes: Any = int) -> Any:
    return define_stage(id=name, execute=talk, input=takes, output=int)


def chain(length: int) -> Any:
    builder: Any = WorkflowBuilder("chain", input=int)
    for number in range(length):
        builder = builder.pipe(step(f"s{number}"))
    return builder.build()


def wide(width: int) -> Any:
    members = [step(f"m{number}") for number in range(width)]
    return WorkflowBuilder("wide", input=int).parallel(*members).pipe(step("end", GroupOutput)).build()


@contextmanager
def statements_of(tester: WorkflowTester) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    sa.event.listen(tester.database.pool, "before_cursor_execute", note)
    yield seen
    sa.event.remove(tester.database.pool, "before_cursor_execute", note)


@pytest.mark.parametrize("workflow", [chain(4), wide(4)], ids=["chain", "parallel"])
def test_a_stage_costs_two_statements_and_one_message(url: str, workflow: Any) -> None:
    with WorkflowTester(workflow, database_url=url) as tester:
        tester.create_run(workflow, 1)
        costs: list[tuple[int, bool, bool]] = []
        delivered = 0
        while tester.messages.waiting:
            with statements_of(tester) as seen:
                assert tester.deliver().result == "completed"
            delivered += 1
            costs.append((len(seen), "'RUNNING'" in seen[0], "'COMPLETED'" in seen[-1]))

        assert costs == [(2, True, True)] * len(workflow.stages)
        assert delivered == len(workflow.stages)
        assert tester.messages.later == []
        tester.assert_consistent(final=True)


def count_commits(tester: WorkflowTester) -> int:
    """Return how many transactions the server has seen committed in the tester's database."""
    with tester.database.pool.connect() as connection:
        connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
        connection.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
        return int(connection.scalar(sa.text(COMMITS)) or 0)


@pytest.mark.parametrize("workflow", [chain(10), wide(10)], ids=["chain", "parallel"])
def test_a_stage_costs_two_commits(url: str, workflow: Any) -> None:
    with WorkflowTester(workflow, database_url=url, pool_size=1) as tester:
        run = tester.create_run(workflow, 1)
        first, second = count_commits(tester), count_commits(tester)
        while tester.messages.waiting:
            tester.deliver()
        third = count_commits(tester)

        cost_of_counting = second - first
        assert third - second - cost_of_counting == 2 * len(workflow.stages)
        assert run.output() == 1


def test_transactions_are_read_committed_whatever_the_default_of_the_database(url: str) -> None:
    name = url.rpartition("/")[2]
    with WorkflowTester(chain(1), database_url=url) as tester:
        statement = f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
        tester.database.execute_one(lambda connection: connection.exec_driver_sql(statement))

    with WorkflowTester(chain(1), database_url=url) as tester:
        tester.run_until_idle()
        query = sa.text("SHOW transaction_isolation")
        in_transaction = tester.database.transact(lambda tx: tx.scalar(query))
        alone = tester.database.read(lambda tx: tx.scalar(query))

        assert (in_transaction, alone) == ("read committed", "read committed")


def test_nothing_goes_through_the_orm(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = chain(2)
    monkeypatch.setattr(sqlalchemy.orm.Session, "__init__", lambda *_, **__: pytest.fail("a session of the ORM"))

    with WorkflowTester(workflow, database_url=url) as tester:
        run = tester.create_run(workflow, 1)
        tester.run_until_idle()

        assert run.output() == 1


def test_a_retry_failure_or_suspension_costs_a_handful_of_statements(url: str) -> None:
    def fails(_: Any) -> int:
        raise ConnectionError

    workflow = (
        WorkflowBuilder("flaky", input=int).pipe(define_stage(id="a", execute=fails, input=int, output=int)).build()
    )
    with WorkflowTester(workflow, database_url=url) as tester:
        tester.create_run(workflow, 1)

        with statements_of(tester) as seen:
            assert tester.deliver().result == "retrying"

        assert len(seen) <= 9, seen


def test_a_rerun_near_the_end_of_a_long_chain_loads_what_it_needs_and_no_more(url: str) -> None:
    workflow = chain(50)
    with WorkflowTester(workflow, database_url=url) as tester:
        run = tester.create_run(workflow, 1)
        tester.run_until_idle()

        with statements_of(tester) as of_rerun:
            tester.rerun(run.id, from_stage="s48")
        with statements_of(tester) as of_stages:
            while tester.messages.waiting:
                tester.deliver()

        payloads = [statement for statement in of_rerun if "workflow_outputs" in statement]
        assert run.snapshot().generation == 1
        assert run.output() == 1
        assert len(of_rerun) <= 12, of_rerun
        assert payloads == []
        assert len(of_stages) == 4


def test_a_claim_brings_only_the_outputs_that_the_stage_needs(url: str) -> None:
    workflow = chain(50)
    with WorkflowTester(workflow, database_url=url) as tester:
        tester.create_run(workflow, 1)
        for _ in range(49):
            tester.deliver()
        taken: list[Any] = []
        original = moves_postgres.claim

        def spy(*args: Any) -> Any:
            taken.append(original(*args))
            return taken[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(moves_postgres, "claim", spy)
            tester.deliver()

        assert list(taken[0].outputs) == ["s48"]
        assert taken[0].run_input is None
