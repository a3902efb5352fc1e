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


#: Most ids in one query.
_MOST_IDS = 1000


@dataclass(frozen=True, slots=True)
class EndedRun:
    """The columns from which the result of a run is read."""

    status: RunStatus
    plan: str
    input: str
    output_group: int | None
    error_message: str | None


def find_ended_run(tx: Connection, run_id: str) -> EndedRun | None:
    """Return the columns of a run's result, ended or not; None when there is no such run."""
    columns = (runs.c.status, runs.c.plan, runs.c.input, runs.c.output_group, runs.c.error_message)
    row = tx.execute(select(*columns).where(runs.c.id == run_id)).first()
    return EndedRun(RunStatus(row.status), row.plan, row.input, row.output_group, row.error_message) if row else None


@dataclass(frozen=True, slots=True)
class RunState:
    """The status of a run, and why it failed."""

    status: RunStatus
    error_message: str | None


def list_run_states(tx: Connection, run_ids: Sequence[str]) -> dict[str, RunState]:
    """Return the states of runs, keyed by id; unknown ids are absent."""
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


def get_generation(tx: Connection, run_id: str) -> int:
    """Return the run's generation.

    Raises:
        RunNotFoundError: There is no such run.
    """
    return int(_get(tx, runs.c.generation, run_id))


def get_workflow_id(tx: Connection, run_id: str) -> str:
    """Return the id of the run's workflow.

    Raises:
        RunNotFoundError: There is no such run.
    """
    return str(_get(tx, runs.c.workflow_id, run_id))


def _get(tx: Connection, column: Column[Any], run_id: str) -> Any:
    value = tx.scalar(select(column).where(runs.c.id == run_id))
    if value is None:
        raise RunNotFoundError(run_id)
    return value
