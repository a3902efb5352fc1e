"""The log of a stage: lines with fields, stored with the run."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from workflow_engine.errors import PayloadError
from workflow_engine.payloads.text import decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.definition.contexts.port import ContextPort

#: Longest text of a field that is not a JSON value.
LONGEST_REPR: Final = 2_000


class StageLog:
    """Writes log lines of one execution; never raises because of what is logged.

    Example:
        ``ctx.log.info("fetching", url=ctx.input.url)``
    """

    __slots__ = ("_port",)

    def __init__(self, port: ContextPort) -> None:
        self._port = port

    def debug(self, message: str, **fields: object) -> None:
        """Log at level debug."""
        self._write("debug", message, fields)

    def info(self, message: str, **fields: object) -> None:
        """Log at level info."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Log at level warning."""
        self._write("warning", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Log at level error."""
        self._write("error", message, fields)

    def exception(self, message: str, **fields: object) -> None:
        """Log at level error, with the traceback of the exception that is being handled as field ``traceback``."""
        self._write("error", message, {**fields, "traceback": traceback.format_exc()})

    def _write(self, level: str, message: object, fields: Mapping[str, object]) -> None:
        text = message if isinstance(message, str) else safe_repr(message)
        self._port.write_log(level, text, {key: to_loggable(value) for key, value in fields.items()})


def to_loggable(value: object) -> object:
    """Return ``value`` as plain JSON, detached from the caller's object, or its repr where it is not JSON."""
    try:
        return decode_json(encode_json(value, what="log field"))
    except PayloadError:
        return safe_repr(value)


def safe_repr(value: object) -> str:
    """Return ``repr(value)`` cut to a sensible length, also when ``__repr__`` raises."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a broken __repr__ must not fail the stage
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= LONGEST_REPR else text[:LONGEST_REPR] + "…"
