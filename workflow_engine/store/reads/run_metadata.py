"""The metadata that runs are found by: which of it is searchable, and the table that it is searched in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, literal, select

from workflow_engine.errors import InvalidRequestError
from workflow_engine.payloads.secrets import clean_text
from workflow_engine.payloads.text import encode_json
from workflow_engine.store.schema.tables import run_metadata, runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

#: Longest key of metadata, searchable or not.
LONGEST_KEY: Final = 200
#: Longest JSON text of a searchable value.
_LONGEST_TEXT: Final = 255


def insert_metadata(tx: Connection, run_id: str, metadata: Mapping[str, Any]) -> None:
    """Make a run searchable by the top-level scalars of its metadata."""
    texts = {clean_text(key): text for key, value in metadata.items() if (text := _searchable_text(value)) is not None}
    rows = [{"run_id": run_id, "key": key, "value": text} for key, text in texts.items() if len(key) <= LONGEST_KEY]
    if rows:
        tx.execute(insert(run_metadata), rows)


def copy_metadata(tx: Connection, run_id: str, fork_id: str) -> None:
    """Make the fork searchable by the metadata of the run."""
    found = select(literal(fork_id), run_metadata.c.key, run_metadata.c.value).where(run_metadata.c.run_id == run_id)
    tx.execute(insert(run_metadata).from_select(["run_id", "key", "value"], found))


def has_metadata(key: str, value: object) -> ColumnElement[bool]:
    """Return the condition that the metadata of a run holds a value under a key.

    Raises:
        InvalidRequestError: The value is not searchable.
    """
    text = _searchable_text(value)
    if text is None:
        raise InvalidRequestError(
            f"Runs can be found by short scalars of their metadata only, not by {key}={value!r:.80}"
        )
    return runs.c.id.in_(select(run_metadata.c.run_id).where(run_metadata.c.key == key, run_metadata.c.value == text))


def _searchable_text(value: object) -> str | None:
    """Return the text under which a value is found; None for nested and long ones."""
    if not isinstance(value, str | int | float | bool | None):
        return None
    text = encode_json(value, what="metadata value")
    return text if len(text) <= _LONGEST_TEXT else None
