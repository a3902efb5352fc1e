"""Types of the columns by which rows are found: of any value that a caller gives they make one that every driver takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import String, TypeDecorator

from workflow_engine.payloads.secrets import clean_text

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

_ID_LENGTH = 36


class Id(TypeDecorator[str]):
    """An id. A value that cannot be an id becomes the empty text, which no row has, so that nothing is found.

    Drivers raise errors of their own for a NUL, half a surrogate pair or a number.
    """

    impl: TypeEngine[str] | type[TypeEngine[str]] = String(_ID_LENGTH)
    cache_ok: bool | None = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return what to send to the database."""
        if value is None:
            return None
        return value if isinstance(value, str) and len(value) <= _ID_LENGTH and value.isprintable() else ""


class Label(TypeDecorator[str]):
    """A short text. Characters that drivers refuse are escaped, in rows as well as in conditions."""

    impl: TypeEngine[str] | type[TypeEngine[str]] = String
    cache_ok: bool | None = True

    def process_bind_param(self, value: object, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Return what to send to the database."""
        return clean_text(value) if isinstance(value, str) else value
