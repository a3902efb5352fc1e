"""Named extra results of a run: written only by who holds a lease, readable by everybody.

A scope is the id of the stage that owns the key, or ``SHARED`` for what the run's stages share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, delete, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from workflow_engine.clock import ms_to_instant
from workflow_engine.errors import LeaseLost
from workflow_engine.store.moves import now
from workflow_engine.store.snapshots import ArtifactEntry
from workflow_engine.store.tables import artifacts, runs, stages

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from workflow_engine.store.database import Database
    from workflow_engine.store.records import Claim

#: The scope that all stages of a run share.
SHARED = ""

_COLUMNS = ("run_id", "scope", "key", "payload", "stage_run_id", "fence", "created_at", "updated_at")


def save_artifact(database: Database, claim: Claim, key: str, payload: str, *, shared: bool) -> None:
    """Write an artifact (JSON text) of the claimed stage run, or of its run; one that has the key is replaced.

    Raises:
        LeaseLost: The claim does not hold its lease any more; nothing was written.
    """
    source = (
        select(*(literal(text) for text in (claim.run_id, _scope(claim, shared=shared), key, payload)))
        .add_columns(stages.c.id, stages.c.fence, now(), now())
        .where(*_is_held(claim))
    )
    insert = postgresql.insert(artifacts) if database.is_postgres else sqlite.insert(artifacts)
    insert = insert.from_select(_COLUMNS, source)
    replaced = {name: insert.excluded[name] for name in ("payload", "stage_run_id", "fence", "updated_at")}
    statement = insert.on_conflict_do_update(index_elements=_COLUMNS[:3], set_=replaced)

    def work(tx: Connection) -> bool:
        _lock_run(tx, claim)
        return tx.execute(statement).rowcount == 1

    if not database.transact(work):
        raise _lost(claim, key)


def delete_artifact(database: Database, claim: Claim, key: str, *, shared: bool) -> bool:
    """Delete an artifact of the claimed stage run, or of its run; return whether it existed.

    Raises:
        LeaseLost: The claim does not hold its lease any more; nothing was deleted.
    """
    statement = delete(artifacts).where(*_is_named(claim.run_id, _scope(claim, shared=shared), key))

    def work(tx: Connection) -> bool:
        _lock_run(tx, claim)
        if tx.scalar(select(stages.c.id).where(*_is_held(claim))) is None:
            raise _lost(claim, key)
        return tx.execute(statement).rowcount == 1

    return database.transact(work)


def load_artifact(database: Database, claim: Claim, key: str, *, shared: bool) -> str | None:
    """Read the JSON text of an artifact of the claimed stage run, or of its run."""
    return database.read(lambda tx: find_artifact(tx, claim.run_id, _scope(claim, shared=shared), key))


def list_artifact_keys(database: Database, claim: Claim, prefix: str, *, shared: bool) -> list[str]:
    """Read the keys that start with ``prefix``, sorted, of the claimed stage run, or of its run."""
    scope = _scope(claim, shared=shared)
    query = select(artifacts.c.key).where(artifacts.c.run_id == claim.run_id, artifacts.c.scope == scope)
    keys = database.read(lambda tx: tx.scalars(query).all())
    # Compared here: LIKE ignores case on SQLite, and collations differ between servers.
    return sorted(key for key in keys if key.startswith(prefix))


def find_artifact(tx: Connection, run_id: str, scope: str, key: str) -> str | None:
    """Read the JSON text of an artifact."""
    return tx.scalar(select(artifacts.c.payload).where(*_is_named(run_id, scope, key)))


def list_artifacts(tx: Connection, run_id: str) -> list[ArtifactEntry]:
    """Read what artifacts a run has, in all scopes, without their values."""
    # PostgreSQL knows the length without reading the value.
    length = func.octet_length if tx.dialect.name == "postgresql" else func.length
    shown = (column for column in artifacts.c if column.name != "payload")
    query = select(*shown, length(artifacts.c.payload).label("size_bytes")).where(artifacts.c.run_id == run_id)
    entries = [
        ArtifactEntry(
            run_id=row.run_id,
            stage_id=row.scope or None,
            key=row.key,
            size_bytes=row.size_bytes,
            created_at=ms_to_instant(row.created_at),
            updated_at=ms_to_instant(row.updated_at),
        )
        for row in tx.execute(query)
    ]
    return sorted(entries, key=lambda entry: (entry.stage_id or "", entry.key))


def _scope(claim: Claim, *, shared: bool) -> str:
    return SHARED if shared else claim.stage_id


def _is_named(run_id: str, scope: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return artifacts.c.run_id == run_id, artifacts.c.scope == scope, artifacts.c.key == key


def _is_held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return stages.c.id == claim.stage_run_id, stages.c.fence == claim.fence, stages.c.lease_id.is_not(None)


def _lock_run(tx: Connection, claim: Claim) -> None:
    """Keep the run, and so its stage runs, as they are until the commit: every move locks the run's row first.

    Several artifacts can be saved at once.
    """
    tx.execute(select(runs.c.id).where(runs.c.id == claim.run_id).with_for_update(read=True, key_share=True))


def _lost(claim: Claim, key: str) -> LeaseLost:
    return LeaseLost(
        f'Stage "{claim.stage_id}" of run {claim.run_id} lost its lease; artifact {key!r} is left as it is'
    )
