"""Every invariant can fail: one mutation of otherwise good records for each, on each database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from workflow_engine.definition import (
    GroupOutput,
    Retry,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
    define_stage,
)
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.records import ClaimRequest
from workflow_engine.store.schema.tables import metadata
from workflow_engine.store.upkeep.invariants import FINAL_INVARIANTS, INVARIANTS, find_violations
from workflow_engine.testing.kit import WorkflowTester

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGE_A = "run_id = :done AND stage_id = 'a'"
OF_STAGE_A = f"stage_run_id = (SELECT id FROM workflow_stages WHERE {STAGE_A})"
RUNNING = "run_id = :live AND status = 'RUNNING'"

#: Number of the invariant -> what breaks it. ``:done``, ``:live``, … are runs of ``Records``.
MUTATIONS = {
    "01 a lease without an end": f"UPDATE workflow_stages SET lease_until = NULL WHERE {RUNNING}",
    "01 a lease of what has ended": f"UPDATE workflow_stages SET lease_id = 'x', lease_until = 1 WHERE {STAGE_A}",
    "02": "UPDATE workflow_stages SET superseded_by = NULL WHERE run_id = :rerun",
    "03": "UPDATE workflow_runs SET status = 'CANCELLED', completed_at = created_at WHERE id = :live",
    "04": "UPDATE workflow_runs SET current_group = 3 WHERE id = :live",
    "05": f"UPDATE workflow_stages SET status = 'CANCELLED' WHERE {STAGE_A}",
    "06": "UPDATE workflow_runs SET current_group = 1 WHERE id = :done",
    "07": "UPDATE workflow_stages SET status = 'CANCELLED' WHERE run_id = :failed AND status = 'FAILED'",
    "08 no group": "UPDATE workflow_runs SET output_group = NULL WHERE id = :done",
    "08 a group without output": "UPDATE workflow_stages SET output_id = NULL WHERE run_id = :done AND stage_id = 'd'",
    "09": "UPDATE workflow_stages SET status = 'PENDING' WHERE run_id = :rerun AND superseded_by IS NOT NULL",
    "10": f"UPDATE workflow_stages SET generation = 1 WHERE {STAGE_A}",
    "10 superseded by nothing": "UPDATE workflow_stages SET superseded_by = 0 WHERE run_id = :rerun AND superseded_by = 1",
    "11": f"UPDATE workflow_attempts SET outcome = 'FAILED' WHERE {OF_STAGE_A}",
    "11 not the newest": f"UPDATE workflow_stages SET fence = fence + 1 WHERE {STAGE_A}",
    "12": f"UPDATE workflow_stages SET attempt = attempt + 1 WHERE {STAGE_A}",
    "13": f"UPDATE workflow_stages SET attempt = attempt + max_attempts WHERE {STAGE_A}",
    "13 crashes": f"UPDATE workflow_stages SET crashes = max_crashes + 1 WHERE {STAGE_A}",
    "13 polls": f"UPDATE workflow_stages SET poll_crashes = max_crashes + 1 WHERE {STAGE_A}",
    "14 no attempt": f"""UPDATE workflow_attempts SET outcome = 'LOST', ended_at = started_at
        WHERE stage_run_id = (SELECT id FROM workflow_stages WHERE {RUNNING})""",
    "14 another fence": f"UPDATE workflow_stages SET fence = fence + 1 WHERE {RUNNING}",
    "15": f"""INSERT INTO workflow_attempts
            (stage_run_id, fence, kind, attempt, lease_id, worker_id, started_at, ended_at, outcome)
        SELECT stage_run_id, 0, kind, attempt, lease_id, worker_id, started_at, started_at + 1, 'RELEASED'
        FROM workflow_attempts WHERE {OF_STAGE_A}""",
    "16": "DELETE FROM workflow_events WHERE run_id = :done AND sequence = 2",
    "17 another end": "UPDATE workflow_events SET type = 'run.failed' WHERE run_id = :done AND type = 'run.completed'",
    "17 two ends": "UPDATE workflow_events SET type = 'run.completed' WHERE run_id = :done AND type = 'run.created'",
    "18": "UPDATE workflow_events SET type = 'x' WHERE run_id = :done AND type = 'stage.completed' AND stage_id = 'a'",
    "19": f"UPDATE workflow_stages SET completed_at = created_at - 1 WHERE {STAGE_A}",
    "19 of a run": "UPDATE workflow_runs SET started_at = created_at - 1 WHERE id = :done",
    "20 active": "UPDATE workflow_runs SET remaining = remaining + 1 WHERE id = :live",
    "20 failed": "UPDATE workflow_runs SET failed = 0 WHERE id = :failed",
    "21": f"DELETE FROM workflow_outputs WHERE id = (SELECT output_id FROM workflow_stages WHERE {STAGE_A})",
    "21 shared": """UPDATE workflow_stages SET output_id = 'gone'
        WHERE run_id = :fork AND stage_id = 'a' AND shared_from IS NOT NULL""",
    "22": f"UPDATE workflow_attempts SET cost_nanos = 1 WHERE {OF_STAGE_A}",
    "22 tokens": f"UPDATE workflow_attempts SET tokens = 1 WHERE {OF_STAGE_A}",
    "23": f"UPDATE workflow_stages SET status = 'CANCELLED' WHERE {STAGE_A}",
}
#: The same for what must hold once no run is under way.
FINAL_MUTATIONS = {
    "every run has ended": "UPDATE workflow_runs SET status = 'RUNNING' WHERE id = :done",
    "no lease is left": f"UPDATE workflow_stages SET lease_id = 'x', lease_until = 1 WHERE {STAGE_A}",
    "no clean-up is owed": f"UPDATE workflow_stages SET cleanup_due_at = 1 WHERE {STAGE_A}",
}


def step(name: str, takes: Any = int, body: Any = lambda _: 1, **options: Any) -> Any:
    return define_stage(id=name, execute=body, input=takes, output=int, **options)


def fails(_: Any) -> int:
    raise ValueError("no")


WAITS = define_async_batch_stage(
    id="w", execute=lambda _: Suspend(1), check=lambda _: 1, input=int, output=int, state=int
)
WORKFLOWS = [
    WorkflowBuilder("good", input=int)
    .pipe(step("a"))
    .parallel(step("b"), step("c"))
    .pipe(step("d", GroupOutput))
    .build(),
    WorkflowBuilder("bad", input=int).pipe(step("a", body=fails, retry=Retry(max_attempts=1))).build(),
    WorkflowBuilder("waits", input=int).pipe(WAITS).build(),
]


class Records:
    """Runs in every state, with good records."""

    def __init__(self, tester: WorkflowTester) -> None:
        self.database = tester.database
        self.tester = tester
        self.runs = {name: tester.create_run("good", 1).id for name in ("done", "rerun")}
        self.runs["failed"] = tester.create_run("bad", 1).id
        tester.run_until_idle()
        tester.rerun(self.runs["rerun"], from_stage="b")
        self.runs["fork"] = tester.fork(self.runs["done"], from_stage="b").id
        self.runs["waits"] = tester.create_run("waits", 1).id
        tester.run_until_idle()
        self.runs["live"] = tester.create_run("good", 1).id
        tester.deliver()
        hint = tester.messages.waiting[0]
        assert claim(self.database, ClaimRequest(hint.stage_run_id, 1, "nonce", "host:1:a", 60_000))

    def end(self) -> None:
        for name in ("live", "waits"):
            self.tester.cancel(self.runs[name])
        self.tester.run_until_idle()

    def allow_anything(self) -> None:
        """Drop what keeps the database from taking bad rows."""
        with self.database.pool.begin() as tx:
            tx.exec_driver_sql("DROP INDEX uq_workflow_stages_live")
            for table in metadata.tables.values() if self.database.is_postgres else ():
                for check in table.constraints:
                    if isinstance(check, sa.CheckConstraint):
                        tx.exec_driver_sql(f"ALTER TABLE {table.name} DROP CONSTRAINT {check.name}")

    def violations_after(self, mutation: str, invariants: dict[str, str]) -> set[str]:
        """Return the names of the invariants that do not hold after the mutation, which is taken back."""
        with self.database.pool.connect() as tx:
            if not self.database.is_postgres:
                tx.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            statement = sa.text(mutation)
            used = {name: self.runs[name] for name in statement.compile().params}
            assert tx.execute(statement, used).rowcount > 0, mutation
            found = {name for name, query in invariants.items() if tx.execute(sa.text(query)).first()}
            tx.rollback()
        return found


@pytest.fixture
def good(database_url: str) -> Iterator[Records]:
    with WorkflowTester(WORKFLOWS, database_url=database_url) as tester:
        yield Records(tester)


def test_every_invariant_fails_under_a_mutation_of_good_records(good: Records) -> None:
    assert find_violations(good.database) == {}
    good.allow_anything()

    found = {label: good.violations_after(mutation, INVARIANTS) for label, mutation in MUTATIONS.items()}

    missed = [label for label, names in found.items() if not any(name.startswith(label[:2]) for name in names)]
    assert missed == []
    assert {label[:2] for label in MUTATIONS} == {name[:2] for name in INVARIANTS}
    assert find_violations(good.database) == {}


def test_every_final_invariant_fails_under_a_mutation_of_records_at_rest(good: Records) -> None:
    good.end()
    assert find_violations(good.database, final=True) == {}
    good.allow_anything()

    missed = [
        name
        for name, mutation in FINAL_MUTATIONS.items()
        if name not in good.violations_after(mutation, FINAL_INVARIANTS)
    ]

    assert missed == []
    assert FINAL_MUTATIONS.keys() == FINAL_INVARIANTS.keys()
