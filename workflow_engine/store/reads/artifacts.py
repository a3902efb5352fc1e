"""Artifacts: named extra results of stage runs. Only the holder of a stage run's lease writes its artifacts.

An artifact is live, history or shared by a fork together with its stage run. Of the shared artifacts of one key the
one that a live stage run wrote last counts. The column ``scope`` only keeps the rows of one key apart: it holds the
stage's id, or "" for shared artifacts, as release 0.1.0 writes and reads it. Where another stage run's row has that
place, it holds a mark that no stage id begins with, and the id of the stage run that wrote the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, case, delete, func, select, update

from workflow_engine.clock import ms_to_instant
from workflow_engine.errors import LeaseLost
from workflow_engine.store.connection.inserts import insert_into
from workflow_engine.store.reads.lineage import lineage
from workflow_engine.store.reads.snapshots import ArtifactEntry
from workflow_engine.store.schema.now import now
from workflow_engine.store.schema.tables import artifacts, runs, stages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.records import Claim

_SHARED: Final = ""
#: Marks of scopes that hold the id of a stage run.
_VERSIONED_OWN, _VERSIONED_SHARED = "+", "*"
#: The payload of a row that hides an earlier stage run's shared artifact; no JSON text is empty.
_DELETED: Final = ""

_is_shared = func.substr(artifacts.c.scope, 1, 1).in_([_SHARED, _VERSIONED_SHARED])
_latest_first = (artifacts.c.updated_at.desc(), artifacts.c.stage_run_id.desc())


def save_artifact(database: Database, claim: Claim, key: str, payload: str, *, shared: bool) -> None:
    """Write an artifact (JSON text) of the claimed stage run, in place of an earlier one under the key.

    Raises:
        LeaseLost: The claim does not hold its lease any more; nothing was written.
    """

    def work(tx: Connection) -> None:
        _hold(tx, claim, key)
        _write(tx, claim, key, payload, shared=shared)

    database.transact(work)


def delete_artifact(database: Database, claim: Claim, key: str, *, shared: bool) -> bool:
    """Hide an artifact from the live stage runs; return whether it existed.

    Raises:
        LeaseLost: The claim does not hold its lease any more; nothing was deleted.
    """
    was_there = False  # kept when the call is made again because its answer was lost

    def work(tx: Connection) -> bool:
        nonlocal was_there
        _hold(tx, claim, key)
        was_there = _find(tx, claim, key, shared=shared) is not None or was_there
        tx.execute(delete(artifacts).where(*_is_of(claim, key, shared=shared)))
        if _find(tx, claim, key, shared=shared) is not None:
            # Another stage run wrote it, and keeps it: it is seen again once this stage run is superseded.
            _insert(tx, claim, key, _DELETED, f"{_VERSIONED_SHARED}{claim.stage_run_id}")
        return was_there

    return database.transact(work)


def load_artifact(database: Database, claim: Claim, key: str, *, shared: bool) -> str | None:
    """Read the JSON text of an artifact of the claimed stage run, or of those that its run's stages share."""
    return database.read(lambda tx: _find(tx, claim, key, shared=shared))


def list_artifact_keys(database: Database, claim: Claim, prefix: str, *, shared: bool) -> list[str]:
    """Read the keys with a prefix, sorted: of the claimed stage run's artifacts, or of those that its run shares."""
    if shared:
        entries = database.read(lambda tx: list_artifacts(tx, claim.run_id))
        keys = [entry.key for entry in entries if entry.stage_id is None]
    else:
        own = select(artifacts.c.key).where(artifacts.c.stage_run_id == claim.stage_run_id, ~_is_shared)
        keys = list(database.read(lambda tx: tx.scalars(own).all()))
    # Compared here: LIKE ignores case on SQLite, and collations differ between servers.
    return sorted(key for key in keys if key.startswith(prefix))


def find_artifact(
    tx: Connection, run_id: str, stage_id: str | None, key: str, *, generation: int | None = None
) -> str | None:
    """Read the JSON text of an artifact of a stage, or without ``stage_id`` of one that the run's stages share.

    With ``generation`` it is read as the stage runs of that generation left it, live or not.
    """
    members = lineage(run_id, history=generation is not None)
    query = select(artifacts.c.payload).join(members, members.c.origin == artifacts.c.stage_run_id)
    query = query.where(artifacts.c.key == key, _is_shared if stage_id is None else ~_is_shared)
    if stage_id is not None:
        query = query.where(members.c.stage_id == stage_id)
    if generation is not None:
        query = query.where(members.c.generation == generation)
    return tx.scalar(query.order_by(*_latest_first).limit(1)) or None


def list_artifacts(tx: Connection, run_id: str, *, history: bool = False) -> list[ArtifactEntry]:
    """Read the artifacts of a run without their values; with ``history`` also those that are not live."""
    members = lineage(run_id, history=history)
    # PostgreSQL knows the length without reading the value.
    length = func.octet_length if tx.dialect.name == "postgresql" else func.length
    columns = (artifacts.c.key, artifacts.c.created_at, artifacts.c.updated_at, *members.c)
    query = select(*columns, _is_shared.label("is_shared"), length(artifacts.c.payload).label("size_bytes"))
    rows = tx.execute(query.join(members, members.c.origin == artifacts.c.stage_run_id).order_by(*_latest_first)).all()
    live = _find_live(rows)
    entries = [_entry(run_id, row, is_live=row in live) for row in rows if row.size_bytes > len(_DELETED)]
    shown = (entry for entry in entries if history or entry.is_live)
    return sorted(shown, key=lambda entry: (entry.stage_id or "", entry.key, entry.generation, entry.updated_at))


def _find_live(rows: Iterable[Any]) -> set[Any]:
    """Return the live artifacts of rows that have the latest first: of a shared key only the latest is live."""
    live: dict[tuple[str, str | None], Any] = {}
    for row in rows:
        if row.superseded_by is None:
            live.setdefault((row.key, None if row.is_shared else row.owner), row)
    return set(live.values())


def _entry(run_id: str, row: Any, *, is_live: bool) -> ArtifactEntry:
    return ArtifactEntry(
        run_id=run_id,
        stage_id=None if row.is_shared else row.stage_id,
        key=row.key,
        size_bytes=row.size_bytes,
        written_by=row.stage_id,
        generation=row.generation,
        is_live=is_live,
        created_at=ms_to_instant(row.created_at),
        updated_at=ms_to_instant(row.updated_at),
    )


def _find(tx: Connection, claim: Claim, key: str, *, shared: bool) -> str | None:
    """Read the artifact that the claimed stage run finds under a key."""
    if shared:
        return find_artifact(tx, claim.run_id, None, key)
    return tx.scalar(select(artifacts.c.payload).where(*_is_of(claim, key, shared=False)))


def _write(tx: Connection, claim: Claim, key: str, payload: str, *, shared: bool) -> None:
    values = {"payload": payload, "fence": claim.fence, "updated_at": now()}
    if tx.execute(update(artifacts).where(*_is_of(claim, key, shared=shared)).values(values)).rowcount:
        return
    plain, mark = (_SHARED, _VERSIONED_SHARED) if shared else (claim.stage_id, _VERSIONED_OWN)
    if not _insert(tx, claim, key, payload, plain):
        _insert(tx, claim, key, payload, f"{mark}{claim.stage_run_id}")


def _insert(tx: Connection, claim: Claim, key: str, payload: str, scope: str) -> bool:
    """Insert a row, or replace the stage run's own; False where another stage run's row has the place."""
    insert = insert_into(tx, artifacts).values(
        run_id=claim.run_id,
        scope=scope,
        key=key,
        payload=payload,
        stage_run_id=claim.stage_run_id,
        fence=claim.fence,
        created_at=now(),
        updated_at=now(),
    )
    statement = insert.on_conflict_do_update(
        index_elements=["run_id", "scope", "key"],
        set_={name: insert.excluded[name] for name in ("payload", "fence", "updated_at")},
        where=artifacts.c.stage_run_id == insert.excluded.stage_run_id,
    )
    return tx.execute(statement).rowcount == 1


def _is_of(claim: Claim, key: str, *, shared: bool) -> tuple[ColumnElement[bool], ...]:
    """Tell which rows the claimed stage run itself wrote under a key."""
    is_kind = _is_shared if shared else ~_is_shared
    return artifacts.c.stage_run_id == claim.stage_run_id, artifacts.c.key == key, is_kind


def _hold(tx: Connection, claim: Claim, key: str) -> None:
    """Keep the run, and so its stage runs, as they are until the commit: every move locks the run's row first.

    Several artifacts can be saved at once. The lease is looked at by a statement of its own: the one that waited for
    the lock sees the stage run as it was before.

    Raises:
        LeaseLost: The claim does not hold its lease any more.
    """
    tx.execute(select(runs.c.id).where(runs.c.id == claim.run_id).with_for_update(read=True, key_share=True))
    is_held = (stages.c.id == claim.stage_run_id, stages.c.fence == claim.fence, stages.c.lease_id.is_not(None))
    if tx.scalar(select(stages.c.id).where(*is_held)) is None:
        raise LeaseLost(
            f'Stage "{claim.stage_id}" of run {claim.run_id} lost its lease; artifact {key!r} is left as it is'
        )


def move_artifacts(tx: Connection, run_ids: list[str], stage_run_id: str, run_id: str) -> None:
    """Give what a stage run of other runs wrote to a run that shares it."""
    mark = case((_is_shared, _VERSIONED_SHARED), else_=_VERSIONED_OWN)
    statement = update(artifacts).where(artifacts.c.run_id.in_(run_ids), artifacts.c.stage_run_id == stage_run_id)
    tx.execute(statement.values(run_id=run_id, scope=mark.concat(stage_run_id)))
