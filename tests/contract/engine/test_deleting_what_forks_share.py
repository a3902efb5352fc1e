"""What forks share stays until the last of them is deleted, in whatever order, chains of release 0.1.0 included."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import WorkflowBuilder, define_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def step(name: str, body: Callable[..., Any]) -> Any:
    return define_stage(id=name, execute=body, input=Any, output=Any)


def begin(start: Start, *stages: Any) -> tuple[WorkflowTester, Any]:
    builder: Any = WorkflowBuilder("chain", input=Any)
    for one in stages:
        builder = builder.pipe(one)
    workflow = builder.build()
    tester = start(workflow)
    run = tester.create_run(workflow, 0)
    tester.run_until_idle()
    return tester, run


def share(ctx: Any) -> int:
    ctx.storage.shared.save("report", f"{ctx.stage_id} {ctx.generation}")
    return int(ctx.generation)


def load_shared(ctx: Any) -> Any:
    return ctx.storage.shared.load("report")


def prune(tester: WorkflowTester, run_id: str) -> None:
    """Delete one run, and no other."""

    def age(tx: Any) -> None:
        tx.exec_driver_sql(f"UPDATE workflow_runs SET completed_at = 1 WHERE id = '{run_id}'")

    tester.database.transact(age)
    assert tester.prune(timedelta(days=1)) == 1


def make_chain_of_the_first_release(tester: WorkflowTester, fork: Any, other: Any) -> None:
    """Let what a fork of a fork shares name the fork between, as release 0.1.0 did."""
    between = other.list_stages()[0].id
    statement = f"UPDATE workflow_stages SET shared_from = '{between}' WHERE id = '{fork.list_stages()[0].id}'"
    tester.database.transact(lambda tx: tx.exec_driver_sql(statement))


@pytest.mark.parametrize("made_by", ["this release", "0.1.0"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 2), (0, 2), (2, 0)], ids=str)
def test_what_forks_share_stays_until_the_last_of_them_goes(start: Start, made_by: str, order: tuple[int, int]) -> None:
    def save(ctx: Any) -> Any:
        ctx.storage.save("page", "own")
        return share(ctx)

    tester, run = begin(start, step("a", save), step("b", load_shared))
    fork = tester.fork(run.id, from_stage="b")
    again = tester.fork(fork.id, from_stage="b")
    tester.run_until_idle()
    if made_by == "0.1.0":
        make_chain_of_the_first_release(tester, again, fork)
    everyone = [run, fork, again]

    for number in order:
        prune(tester, everyone[number].id)
        for one in everyone:
            if tester.find_run(one.id):
                assert tester.get_artifact(one.id, "page", stage="a") == "own"
                assert tester.get_artifact(one.id, "report") == "a 0"

    [last] = [one for one in everyone if tester.find_run(one.id)]
    again_from = tester.fork(last.id, from_stage="b")
    tester.run_until_idle()
    assert again_from.output() == "a 0"
    for one in (last, again_from):
        prune(tester, one.id)
    count = "SELECT count(*) FROM workflow_artifacts"
    assert tester.database.read(lambda tx: tx.exec_driver_sql(count).scalar_one()) == 0


def test_a_fork_of_a_fork_does_not_need_the_fork_between(start: Start) -> None:
    tester, run = begin(start, step("a", share), step("b", load_shared))
    fork = tester.fork(run.id, from_stage="b")
    again = tester.fork(fork.id, from_stage="b")
    tester.run_until_idle()

    # As release 0.1.0 deletes runs: it looks after outputs only.
    tester.database.transact(lambda tx: tx.exec_driver_sql(f"DELETE FROM workflow_runs WHERE id = '{fork.id}'"))

    assert tester.get_artifact(again.id, "report") == "a 0"


def test_all_runs_and_their_forks_are_deleted_at_once(start: Start) -> None:
    tester, run = begin(start, step("a", share), step("b", load_shared))
    tester.fork(tester.fork(run.id, from_stage="b").id, from_stage="b")
    tester.run_until_idle()
    tester.advance(timedelta(seconds=1))

    assert tester.prune(timedelta(0)) == 3
