"""Validation problems as lines of text: ``path: message``, without the values of secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from workflow_engine.payload import join_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

#: Names whose values never appear in a message. ``max_tokens`` is not one of them.
SECRET_NAME: Final = re.compile(
    r"api[_-]?key|token(?!s(?![a-z]))|secret|passw|passphrase|authorization|credential|private[_-]?key", re.IGNORECASE
)


def list_problems(error: ValidationError) -> list[str]:
    """Return one ``path: message`` line for each rejected field."""
    return [_describe(detail) for detail in error.errors(include_url=False)]


def _describe(detail: ErrorDetails) -> str:
    path = format_location(detail["loc"])
    message = _message(detail)
    return f"{path}: {message}" if path else message


def format_location(location: Sequence[int | str]) -> str:
    """Return the path of a pydantic error location: ``rows[3].name``."""
    path = ""
    for part in location:
        path = join_path(path, part)
    return path


def _message(detail: ErrorDetails) -> str:
    if any(SECRET_NAME.search(part) for part in detail["loc"] if isinstance(part, str)):
        return f"the value is refused ({detail['type']}); not shown because of its name"
    message = detail["msg"]
    for secret in _secret_texts(detail["input"], depth=0):
        message = message.replace(secret, "***")
    return message


def _secret_texts(value: Any, depth: int) -> Iterator[str]:
    """Yield the texts that lie under secret names inside a rejected value."""
    fields = value if isinstance(value, Mapping) else getattr(value, "__dict__", None)
    if not isinstance(fields, Mapping) or depth > _DEEPEST_SECRET:
        return
    for name, item in fields.items():
        if isinstance(name, str) and SECRET_NAME.search(name):
            if isinstance(item, str | int | float) and str(item):
                yield str(item)
        else:
            yield from _secret_texts(item, depth + 1)


_DEEPEST_SECRET: Final = 8
