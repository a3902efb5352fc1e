"""An option of a stage is said in three places, and arrives wherever a stage run is read or written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workflow_engine
from workflow_engine.definition import Retry, StageRunOptions, WorkflowBuilder, define_stage
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.records import ClaimRequest
from workflow_engine.store.schema.tables import stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.store.records import Claim, Hint
    from workflow_engine.testing.kit import WorkflowTester

PACKAGE = Path(workflow_engine.__file__).parent
#: The three places that the docstring of ``definition.workflows.plan`` names: which line to write, and below which.
PLACES = {
    "definition/stages/stage.py": [
        ("    patience: int = 1", "    max_crashes: int = 3"),
        ("    patience: int", "    max_crashes: int"),
        (
            '    check_whole_number("patience", stage.patience, least=1)',
            '    check_whole_number("max_crashes", stage.max_crashes, least=1)',
        ),
    ],
    "definition/workflows/plan.py": [("    patience: int = 1", "    max_crashes: int")],
    "store/schema/tables.py": [
        (
            '    Column("patience", Integer, nullable=False, server_default="1"),',
            '    Column("max_crashes", Integer, nullable=False),',
        )
    ],
}
#: What the planted option's revision would do, and a run whose first group is inserted one way and the second another.
PLAY = """
import json, sys
import sqlalchemy as sa
from workflow_engine.definition import Plan, WorkflowBuilder, define_stage
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.records import ClaimRequest
from workflow_engine.store.schema import revisions
from workflow_engine.store.connection.database import Database
from workflow_engine.testing.kit import WorkflowTester

url, = sys.argv[1:]
database = Database(url)
if not database.is_postgres:
    revisions.upgrade(database)
database.transact(
    lambda tx: tx.execute(sa.text("ALTER TABLE workflow_stages ADD COLUMN patience INTEGER NOT NULL DEFAULT 1"))
)
database.close()
step = lambda name, **options: define_stage(id=name, execute=lambda _: 1, input=int, output=int, **options)
chain = WorkflowBuilder("w", input=int).pipe(step("a", patience=7)).pipe(step("b", patience=8)).pipe(step("c")).build()
told = {"plan": [Plan.from_json(chain.plan().to_json()).groups[n][0].patience for n in range(3)]}
told["is said where it is the default"] = "patience" in json.dumps(json.loads(chain.plan().to_json())["groups"][2])
with WorkflowTester(chain, database_url=url) as tester:
    run = tester.create_run(chain, 1)
    for stage in ("a", "b"):
        [hint] = tester.messages.waiting
        stage_run_id = hint.stage_run_id
        read = lambda tx: LockedRun.find(tx, run.id).stage_run(stage_run_id)
        told[f"row of {stage}"] = tester.database.transact(read).patience
        tester.deliver()
    [hint] = tester.messages.waiting
    fork = tester.fork(run.id, from_stage="c")
    query = "SELECT patience FROM workflow_stages WHERE run_id = :run_id ORDER BY stage_number"
    told["fork"] = list(tester.database.read(lambda tx: tx.scalars(sa.text(query), {"run_id": fork.id}).all()))
    told["claim of c"] = claim(tester.database, ClaimRequest(hint.stage_run_id, 1, "n", "h:1:a", 1000)).patience
    run = tester.create_run(chain, 1)
    [hint] = [hint for hint in tester.messages.waiting if hint.run_id == run.id]
    told["claim of a"] = claim(tester.database, ClaimRequest(hint.stage_run_id, 1, "m", "h:1:a", 1000)).patience
print(json.dumps(told))
"""


def test_an_option_that_is_added_in_three_places_arrives_in_plan_rows_fork_and_claims(
    database_url: str, tmp_path: Path
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "workflow_engine", ignore=shutil.ignore_patterns("__pycache__"))
    for place, edits in PLACES.items():
        text = (tmp_path / "workflow_engine" / place).read_text()
        for line, above in edits:
            assert text.count(f"\n{above}\n") == 1
            text = text.replace(f"\n{above}\n", f"\n{above}\n{line}\n")
        (tmp_path / "workflow_engine" / place).write_text(text)

    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    played = subprocess.run(
        [sys.executable, "-c", PLAY, database_url], env=environment, cwd=tmp_path, capture_output=True, check=False
    )

    assert played.returncode == 0, played.stderr.decode()
    assert json.loads(played.stdout) == {
        "plan": [7, 8, 1],
        "is said where it is the default": False,
        "row of a": 7,
        "row of b": 8,
        "fork": [7, 8, 1],
        "claim of c": 1,
        "claim of a": 7,
    }


def options_of(carrier: Any) -> dict[str, Any]:
    return {option.name: getattr(carrier, option.name) for option in fields(StageRunOptions)}


def claim_hint(tester: WorkflowTester, hint: Hint) -> Claim:
    taken = claim(tester.database, ClaimRequest(hint.stage_run_id, hint.dispatch_number, "nonce", "host:1:a", 30_000))
    assert taken is not None
    return taken


def test_every_option_that_a_stage_run_carries_comes_from_its_stage_to_its_claim(
    start: Callable[..., WorkflowTester],
) -> None:
    unusual: dict[str, Any] = {"retry": Retry(max_attempts=7), "max_crashes": 6}
    expected = {"max_attempts": 7, "max_crashes": 6}
    first, second = (define_stage(id=name, execute=lambda _: 1, input=int, output=int, **unusual) for name in "ab")
    tester = start(workflow := WorkflowBuilder("w", input=int).pipe(first).pipe(second).build())
    run = tester.create_run(workflow, 1)

    tester.deliver()
    [hint] = tester.messages.waiting
    taken = claim_hint(tester, hint)

    locked = tester.database.transact(lambda tx: _lock(tx, run.id, hint.stage_run_id))
    carriers = [*(group[0] for group in workflow.plan().groups), locked, taken]
    assert [options_of(carrier) for carrier in carriers] == [expected] * 4


def _lock(tx: Any, run_id: str, stage_run_id: str) -> Any:
    run = LockedRun.find(tx, run_id)
    return run and run.stage_run(stage_run_id)


def test_every_option_that_a_stage_run_carries_has_a_column_that_is_never_empty() -> None:
    names = {option.name for option in fields(StageRunOptions)}

    assert names <= set(stages.c.keys())
    assert {column.name for column in stages.c if column.name in names and column.nullable} == set()
