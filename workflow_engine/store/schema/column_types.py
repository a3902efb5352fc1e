"""Types of columns that rows are looked for by: whatever a caller gives, the driver gets something it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import String, TypeDecorator

from workflow_engine.payloads.secrets import clean_text

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

_ID_LENGTH = 36


class Id(TypeDecorator[str]):
    """An id. What has not the shape of one names nothing: it is looked for as an empty text, which no row has.

    Drivers would raise errors of their own for a NUL, half a surrogate pair or a number.
    """

    impl: TypeEngine[str] | type[TypeEngine[str]] = String(_ID_LENGTH)
    cache_ok: bool | None = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return what to send to the database."""
        if value is None:
            return None
        return value if isinstance(value, str) and len(value) <= _ID_LENGTH and value.isprintable() else ""


class Label(TypeDecorator[str]):
    """A short text that rows are looked for by. One that no driver takes is looked for, and kept, escaped."""

    impl: TypeEngine[str] | type[TypeEngine[str]] = String
    cache_ok: bool | None = True

    def process_bind_param(self, value: object, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Return what to send to the database."""
        return clean_text(value) if isinstance(value, str) else value
