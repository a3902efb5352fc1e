"""Reading runs for the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from workflow_engine.errors import RunNotFoundError
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column
    from sqlalchemy.engine import Connection


#: Ids that one query looks for.
_MOST_IDS = 1000


@dataclass(frozen=True, slots=True)
class EndedRun:
    """What tells a run's result."""

    status: RunStatus
    plan: str
    input: str
    output_group: int | None
    error_message: str | None


def read_ended_run(tx: Connection, run_id: str) -> EndedRun | None:
    """Return what tells the run's result, ended or not; None when there is no such run."""
    row = tx.execute(
        select(runs.c.status, runs.c.plan, runs.c.input, runs.c.output_group, runs.c.error_message).where(
            runs.c.id == run_id
        )
    ).first()
    return EndedRun(RunStatus(row.status), row.plan, row.input, row.output_group, row.error_message) if row else None


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands."""

    status: RunStatus
    error_message: str | None


def read_run_states(tx: Connection, run_ids: Sequence[str]) -> dict[str, RunState]:
    """Return where the runs stand, keyed by id; unknown ids are absent."""
    states: dict[str, RunState] = {}
    for start in range(0, len(run_ids), _MOST_IDS):
        wanted = runs.c.id.in_(run_ids[start : start + _MOST_IDS])
        rows = tx.execute(select(runs.c.id, runs.c.status, runs.c.error_message).where(wanted))
        states |= {row.id: RunState(RunStatus(row.status), row.error_message) for row in rows}
    return states


def database_now(tx: Connection) -> int:
    """Return the database's present time in milliseconds."""
    return int(tx.scalar(select(now())) or 0)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that an idempotency key stands for."""

    run_id: str
    request_fingerprint: str


def find_by_idempotency_key(tx: Connection, key: str) -> Accepted | None:
    """Return the run that was created under the key."""
    row = tx.execute(select(runs.c.id, runs.c.request_fingerprint).where(runs.c.idempotency_key == key)).first()
    return Accepted(row.id, row.request_fingerprint) if row else None


def read_generation(tx: Connection, run_id: str) -> int:
    """Return the run's generation.

    Raises:
        RunNotFoundError: There is no such run.
    """
    return int(_read_column(tx, run_id, runs.c.generation))


def read_workflow_id(tx: Connection, run_id: str) -> str:
    """Return the id of the run's workflow.

    Raises:
        RunNotFoundError: There is no such run.
    """
    return str(_read_column(tx, run_id, runs.c.workflow_id))


def _read_column(tx: Connection, run_id: str, column: Column[Any]) -> Any:
    value = tx.scalar(select(column).where(runs.c.id == run_id))
    if value is None:
        raise RunNotFoundError(run_id)
    return value
