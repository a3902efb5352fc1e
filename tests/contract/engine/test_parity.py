"""PostgreSQL's one-statement claim and complete leave the same rows as the forms that every database gets."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from tests.contract.engine.stages import step
from workflow_engine.definition import (
    GroupOutput,
    Pending,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
)
from workflow_engine.engine.transitions import finish
from workflow_engine.lifecycle import TERMINAL_RUN, RunStatus
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.schema.tables import runs
from workflow_engine.testing.kit import WorkflowTester

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from workflow_engine.store.records import Hint
    from workflow_engine.testing.services import PostgresServer

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: Read in this order, the stage runs of the one run give every id its number.
STAGES = "SELECT * FROM workflow_stages ORDER BY stage_number, generation"
TABLES = (
    "workflow_runs", "workflow_attempts", "workflow_events", "workflow_logs", "workflow_annotations",
    "workflow_outputs", "workflow_artifacts",
)  # fmt: skip
HOST_AND_PROCESS = {"worker_id", "lease_id"}


def chain(*stages: Any, name: str = "chain", takes: Any = int) -> Any:
    builder: Any = WorkflowBuilder(name, input=takes)
    for one in stages:
        builder = builder.parallel(*one) if isinstance(one, tuple) else builder.pipe(one)
    return builder.build()


def talk(ctx: StageContext[int]) -> int:
    ctx.log.info("hello\x00", token="x", value=ctx.input)  # noqa: S106 - it is to be redacted
    ctx.report(cost=0.25, tokens=7, rows=2)
    ctx.progress(0.5, "half")
    ctx.storage.save("note.json", {"a": 1})
    return ctx.input + 1


def play_chain_with_everything_reported(tester: WorkflowTester, workflow: Any) -> None:
    tester.create_run(workflow, 1, priority=7, metadata={"customer": "x"})
    tester.run_until_idle()


def play_retry_and_poll(tester: WorkflowTester, workflow: Any) -> None:
    tester.run_to_end(tester.create_run(workflow, 1))


def play_rerun(tester: WorkflowTester, workflow: Any) -> None:
    run = tester.create_run(workflow, 1)
    tester.run_until_idle()
    tester.rerun(run.id, from_stage="b")
    tester.run_until_idle()


def play_cancelled_before_it_started_then_rerun(tester: WorkflowTester, workflow: Any) -> None:
    run = tester.create_run(workflow, 1)
    tester.cancel(run.id)
    tester.rerun(run.id, from_stage="a")
    tester.run_until_idle()


def play_with_another_priority_meanwhile(tester: WorkflowTester, workflow: Any) -> None:
    run = tester.create_run(workflow, 1, priority=3)
    raised = runs.update().where(runs.c.id == run.id).values(priority=8)
    tester.database.transact(lambda tx: tx.execute(raised))
    tester.run_until_idle()


def play_late_and_doubled_messages(tester: WorkflowTester, workflow: Any) -> None:
    run = tester.create_run(workflow, 1)
    [message] = tester.messages.waiting
    tester.transition_workflow(run.id)
    tester.deliver(message)
    tester.deliver(message)
    tester.pause(run.id)
    tester.deliver()
    tester.run_until_idle()
    tester.resume(run.id)
    tester.run_until_idle()


def flaky(ctx: StageContext[int]) -> int:
    if ctx.attempt == 1:
        raise ConnectionError("down")
    return talk(ctx)


def sum_up(ctx: StageContext[GroupOutput]) -> int:
    return int(sum(ctx.input.values())) + (ctx.optional("a") or 0)


def polled(name: str = "waits") -> Any:
    def check(ctx: Any) -> Any:
        ctx.report(tokens=1, polled=1)
        return Pending(progress=0.5) if ctx.polls == 0 else ctx.state * 2

    def body(ctx: Any) -> Any:
        ctx.report(cost=1, submitted=3)
        return Suspend(ctx.input, poll_interval=timedelta(seconds=3), metadata={"batch": 1})

    return define_async_batch_stage(id=name, execute=body, check=check, input=int, output=int, state=int)


def fails(_: Any) -> int:
    raise ValueError("never")


class Nested:
    """Runs the group's other member inside its own body, so that it is the last to end."""

    tester: WorkflowTester

    def body(self, ctx: StageContext[int]) -> int:
        while self.tester.messages.waiting:
            self.tester.deliver()
        return ctx.input


NESTED = Nested()
LAST_TO_END = step("slow", NESTED.body)
ONCE = Retry(max_attempts=1)
SCENARIOS: dict[str, tuple[Any, Callable[[WorkflowTester, Any], None]]] = {
    "chain": (
        chain(step("a", talk), step("b", talk, queue="gpu", queue_timeout=timedelta(hours=1))),
        play_chain_with_everything_reported,
    ),
    "group": (
        chain(step("a", talk), (step("b", talk), step("c", talk)), step("d", sum_up, takes=GroupOutput)),
        play_chain_with_everything_reported,
    ),
    "dependencies": (
        chain(step("a", talk), step("b", talk), step("c", lambda ctx: ctx.require("a"), dependencies=["a"])),
        play_chain_with_everything_reported,
    ),
    "retry": (chain(step("a", flaky), step("b", flaky)), play_retry_and_poll),
    "failure": (chain(step("a", talk), step("b", fails, retry=ONCE)), play_retry_and_poll),
    "poll": (chain(polled(), step("b", talk)), play_retry_and_poll),
    "polls in a group": (
        chain((polled("p"), polled("q"), step("c", talk)), step("d", sum_up, takes=GroupOutput)),
        play_retry_and_poll,
    ),
    "last member ends a failed group": (
        chain((LAST_TO_END, step("bad", fails, retry=ONCE))), play_chain_with_everything_reported,
    ),
    "last member advances": (
        chain((LAST_TO_END, step("good", talk)), step("d", sum_up, takes=GroupOutput)),
        play_chain_with_everything_reported,
    ),
    "skips": (
        chain(
            step("a", talk), (step("b", talk, skip_if=lambda _: True), step("c", talk, skip_if=lambda _: True)),
            step("d", sum_up, takes=GroupOutput), step("e", talk, skip_if=lambda _: True),
        ),
        play_chain_with_everything_reported,
    ),
    "rerun": (chain(step("a", talk), step("b", talk), step("c", talk)), play_rerun),
    "cancelled before it started, then rerun": (chain(step("a", talk)), play_cancelled_before_it_started_then_rerun),
    "another priority meanwhile": (
        chain(step("a", talk), (step("b", talk), step("c", talk)), step("d", sum_up, takes=GroupOutput)),
        play_with_another_priority_meanwhile,
    ),
    "late and doubled messages": (chain(step("a", talk), step("b", talk)), play_late_and_doubled_messages),
}  # fmt: skip


@pytest.fixture
def databases(postgres_server: PostgresServer, migrated_postgres: str) -> Iterator[tuple[str, str]]:
    urls = [postgres_server.create_database(template=migrated_postgres) for _ in range(2)]
    yield (urls[0], urls[1])
    for url in urls:
        postgres_server.drop_database(url.rpartition("/")[2])


def play(url: str, name: str) -> dict[str, list[dict[str, Any]]]:
    workflow, act = SCENARIOS[name]
    with WorkflowTester(workflow, database_url=url, check=True) as tester:
        NESTED.tester = tester
        sent: list[dict[str, Any]] = []
        dispatch = tester.messages.dispatch

        def note(hints: Sequence[Hint]) -> None:
            sent.extend(
                {"stage": hint.stage_id, "n": hint.dispatch_number, "queue": hint.queue, "priority": hint.priority}
                for hint in hints
            )
            dispatch(hints)

        with patch.object(tester.messages, "dispatch", note):
            act(tester, workflow)
        return dump(tester) | {"messages": sent}


def dump(tester: WorkflowTester) -> dict[str, list[dict[str, Any]]]:
    """Every row, with ids numbered in the order in which they appear, and instants told only from NULL."""
    names: dict[str, str] = {}

    def mask(column: str, value: Any) -> Any:
        if value is not None and (column.endswith(("_at", "_until")) or column in HOST_AND_PROCESS):
            return f"some {column}"
        if isinstance(value, str):
            return UUID.sub(lambda found: names.setdefault(found[0], f"id {len(names)}"), value)
        return value

    def read(tx: sa.Connection) -> dict[str, list[dict[str, Any]]]:
        queries = {"workflow_stages": STAGES} | {table: f"SELECT * FROM {table}" for table in TABLES}
        found = {table: tx.execute(sa.text(query)).mappings().all() for table, query in queries.items()}
        masked = {
            table: [{key: mask(key, value) for key, value in row.items()} for row in rows]
            for table, rows in found.items()
        }
        return {table: sorted(rows, key=repr) for table, rows in masked.items()}

    return tester.database.read(read)


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_forms_leave_the_same_rows(name: str, databases: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_statement = play(databases[0], name)

    monkeypatch.setattr(finish, "_LARGEST_FAST_GROUP", -1)
    monkeypatch.setattr(moves_postgres, "claim", lambda *_: None)
    monkeypatch.setattr(moves_postgres, "complete", lambda *_: pytest.fail("this is the other form"))
    statement_by_statement = play(databases[1], name)

    assert in_one_statement == statement_by_statement
    assert {RunStatus(run["status"]) for run in in_one_statement["workflow_runs"]} <= TERMINAL_RUN


def test_the_one_statement_forms_are_used(databases: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for form in ("claim", "complete"):
        original = getattr(moves_postgres, form)

        def spy(*args: Any, form: str = form, original: Any = original) -> Any:
            used.append(form)
            return original(*args)

        monkeypatch.setattr(moves_postgres, form, spy)

    play(databases[0], "chain")

    assert used == ["claim", "complete"] * 2
