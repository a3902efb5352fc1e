"""Rows to read: runs and stage runs in any state, written directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.ids import new_id
from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.payloads.text import encode_json
from workflow_engine.store.moves.claims import read_claim
from workflow_engine.store.schema.tables import metadata

if TYPE_CHECKING:
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.records import Claim

#: The instant of everything that no test asks for: 2025-01-01.
NEW_YEAR = 1_735_689_600_000


class Records:
    """Writes rows that meet the constraints."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def insert(self, table: str, **values: Any) -> None:
        self.database.transact(lambda tx: tx.execute(metadata.tables[table].insert().values(**values)))

    def run(self, *, found_by: dict[str, Any] | None = None, **values: Any) -> str:
        run_id = values.setdefault("id", new_id())
        status = values.setdefault("status", RunStatus.RUNNING.value)
        row = {
            "workflow_id": "invoices",
            "workflow_name": "Invoices",
            "workflow_version": "1",
            "priority": 5,
            "current_group": 1,
            "remaining": 1,
            "plan": "[]",
            "input": "{}",
            "config": "{}",
            "created_at": NEW_YEAR,
            "completed_at": NEW_YEAR + 60_000 if RunStatus(status).is_terminal else None,
            "output_group": 1 if status == RunStatus.COMPLETED else None,
            "error_code": "STAGE_ERROR" if status == RunStatus.FAILED else None,
        }
        self.insert("workflow_runs", **(row | values))
        for key, value in (found_by or {}).items():
            self.insert("workflow_run_metadata", run_id=run_id, key=key, value=encode_json(value, what=key))
        return run_id

    def stage(self, run_id: str, stage_id: str = "extract", *, output: str | None = None, **values: Any) -> str:
        stage_run_id = values.setdefault("id", new_id())
        status = values.setdefault("status", StageStatus.PENDING.value)
        if output is not None:
            values["output_id"] = new_id()
            self.insert(
                "workflow_outputs",
                id=values["output_id"],
                run_id=run_id,
                stage_id=stage_id,
                payload=output,
                created_at=NEW_YEAR,
            )
        running = status == StageStatus.RUNNING
        row = {
            "run_id": run_id,
            "stage_id": stage_id,
            "stage_name": stage_id.title(),
            "stage_number": 1,
            "execution_group": 1,
            "input_group": 0,
            "generation": 0,
            "max_attempts": 3,
            "max_crashes": 3,
            "fence": 1 if running else 0,
            "lease_id": new_id() if running else None,
            "lease_until": NEW_YEAR if running else None,
            "available_at": NEW_YEAR,
            "queue": "workflow",
            "priority": 5,
            "dispatch_priority": 5,
            "dispatched_at": NEW_YEAR,
            "next_poll_at": NEW_YEAR if status == StageStatus.SUSPENDED else None,
            "error_code": "STAGE_ERROR" if status == StageStatus.FAILED else None,
            "created_at": NEW_YEAR,
            "completed_at": NEW_YEAR + 60_000 if StageStatus(status).is_terminal else None,
        }
        self.insert("workflow_stages", **(row | values))
        return stage_run_id

    def claim(self, run_id: str, stage_id: str = "extract", **values: Any) -> Claim:
        """Insert a RUNNING stage run and return the claim that holds it."""
        stage_run_id = self.stage(run_id, stage_id, status="RUNNING", **({"attempt": 1} | values))
        claim = self.database.read(lambda tx: read_claim(tx, stage_run_id))
        assert claim is not None
        return claim


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)
