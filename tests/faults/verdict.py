"""What a campaign is judged by: the records, the ledger, the outputs of a quiet run, and how the processes ended."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tests.faults.load import workflows
from workflow_engine.definition.workflows.registry import as_registry
from workflow_engine.engine import CreateRun, Engine, create_run, execute_stage, read_run_result, sweep
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import timedelta
    from pathlib import Path

    from tests.faults.cluster import Cluster
    from workflow_engine.store.records import Hint

#: The figure of executions whose lease ran out, or whose process was seen dying.
LOST = "executions lost and given to others"
OUTPUTS = """
SELECT s.stage_id, o.payload FROM workflow_stages s JOIN workflow_outputs o ON o.id = s.output_id
WHERE s.run_id = :run_id AND s.superseded_by IS NULL ORDER BY s.stage_number
"""


class QuietDispatcher:
    """Keeps hints for the caller to execute."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []

    def dispatch(self, hints: Sequence[Hint]) -> None:
        self.hints.extend(hints)

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        """Waits are the sweep's."""

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
        return set(lists)


class QuietRuns:
    """Executes runs in this process, one stage after the other, and remembers what each stage returned."""

    def __init__(self, settings: Settings) -> None:
        self._dispatcher = QuietDispatcher()
        self._settings = Settings(**{**settings.model_dump(), "database_url": "sqlite://"})
        self._outputs: dict[tuple[str, int], list[tuple[str, str]]] = {}

    def prepare(self, wanted: set[tuple[str, int]]) -> None:
        """Execute what is wanted and was not executed before."""
        database = Database("sqlite://")
        schema.upgrade(database)
        engine = Engine.build(
            settings=self._settings, registry=as_registry(workflows), dispatcher=self._dispatcher, database=database
        )
        for workflow_id, n in sorted(wanted - self._outputs.keys()):
            self._outputs[workflow_id, n] = self._execute(engine, workflow_id, n)
        engine.close()

    def outputs(self, workflow_id: str, n: int) -> list[tuple[str, str]]:
        return self._outputs[workflow_id, n]

    def _execute(self, engine: Engine, workflow_id: str, n: int) -> list[tuple[str, str]]:
        run_id = create_run(engine, CreateRun(workflow_id, {"n": n})).run_id
        while not engine.database.read(lambda tx: read_run_result(tx, run_id)).status.is_terminal:
            engine.database.skew += self._settings.lease
            sweep(engine, force=True)
            while self._dispatcher.hints:
                hint = self._dispatcher.hints.pop(0)
                execute_stage(engine, hint.stage_run_id, hint.dispatch_number)
        return read_outputs(engine.database, run_id)


def read_outputs(database: Database, run_id: str) -> list[tuple[str, str]]:
    """Return each stage's output, byte by byte as it is stored."""
    rows = database.read(lambda tx: tx.execute(sa.text(OUTPUTS), {"run_id": run_id}).all())
    return [(row.stage_id, row.payload) for row in rows]


def select(database: Database, query: str) -> list[Any]:
    """Return the rows of a query; asked again after an error that passes."""
    return database.read(lambda tx: list(tx.exec_driver_sql(query)))


@dataclass
class Observations:
    """What the records and logs of a campaign tell about what it survived."""

    figures: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def observe(cluster: Cluster) -> Observations:
    """Count recoveries, and list what no fault excuses."""
    found = Observations()
    outcomes = select(cluster.database, "SELECT outcome, count(*) FROM workflow_attempts GROUP BY 1")
    counted = {str(outcome): int(count) for outcome, count in outcomes}
    resent = select(cluster.database, "SELECT coalesce(sum(redispatches), 0) FROM workflow_stages")
    found.figures["stage runs whose lost hint was sent again"] = int(resent[0][0])
    found.figures["executions and polls"] = sum(counted.values())
    found.figures[LOST] = counted.get("LOST", 0)
    found.figures["executions given back by a warm end"] = counted.get("RELEASED", 0)
    found.figures["attempts failed and retried"] = counted.get("FAILED", 0)
    logs = [member.read_log() for member in cluster.members]
    for name, pattern in PATTERNS.items():
        found.figures[name] = sum(len(re.findall(pattern, log)) for log in logs)
    found.problems += find_double_executions(cluster.ledger)
    refused = sum(log.count(NOT_RECORDED) for log in logs)
    found.problems += [f"{refused} outcomes could not be recorded at the first try"] if refused else []
    return found


#: Logged when the database refuses an outcome, also where the other form then records it.
NOT_RECORDED = "recording the outcome of"
#: Lines of the workers' logs.
PATTERNS = {
    "hints ignored (late, doubled or forged)": r"succeeded in \S+ 'ignored'",
    "late results discarded": r"result of \S+ discarded: lease lost",
    "malformed messages dropped": r"dropped a malformed message|refused a message",
    "stages that waited for the database": r"the database is unavailable|waits for the database",
}


def find_double_executions(ledger: Path) -> list[str]:
    """Return the claims that were executed more than once."""
    lines = ledger.read_text(encoding="ascii").splitlines() if ledger.exists() else []
    claims = Counter(tuple(line.split()[1:3]) for line in lines)
    return [f"claim {fence} of stage run {row} was executed {n} times" for (row, fence), n in claims.items() if n > 1]
