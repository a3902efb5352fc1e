"""Validation problems as lines of text: ``path: message``, without the values of secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from workflow_engine.payloads.secrets import REPLACEMENT, active_redactor
from workflow_engine.payloads.text import join_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from workflow_engine.payloads.secrets import Redactor

_DEEPEST_SECRET: Final = 8


def list_problems(error: ValidationError, value: object = None) -> list[str]:
    """Return one ``path: message`` line for each rejected field.

    Args:
        error: As Pydantic raised it.
        value: The rejected value as a whole; a message about one part may quote secrets of another.
    """
    redactor = active_redactor()
    secrets = set(_secret_texts(value, redactor, depth=0))
    return [_describe(detail, redactor, secrets) for detail in error.errors(include_url=False)]


def hide_secrets(text: str, value: object) -> str:
    """Return ``text`` without the texts that lie under secret names inside ``value``."""
    return _hide(text, set(_secret_texts(value, active_redactor(), depth=0)))


def format_location(location: Sequence[int | str]) -> str:
    """Return the path of a pydantic error location: ``rows[3].name``."""
    path = ""
    for part in location:
        path = join_path(path, part)
    return path


def _describe(detail: ErrorDetails, redactor: Redactor, secrets: set[str]) -> str:
    path = format_location(detail["loc"])
    message = _message(detail, redactor, secrets)
    return f"{path}: {message}" if path else message


def _message(detail: ErrorDetails, redactor: Redactor, secrets: set[str]) -> str:
    if any(redactor.is_secret(part) for part in detail["loc"]):
        return f"the value is refused ({detail['type']}); not shown because of its name"
    return _hide(detail["msg"], secrets.union(_secret_texts(detail["input"], redactor, depth=0)))


def _hide(text: str, secrets: set[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REPLACEMENT)
    return text


def _secret_texts(value: Any, redactor: Redactor, depth: int, *, is_secret: bool = False) -> Iterator[str]:
    """Yield the texts that lie under secret names inside a value."""
    if is_secret and isinstance(value, str | int | float) and str(value):
        yield str(value)
    if depth > _DEEPEST_SECRET:
        return
    fields = value if isinstance(value, Mapping) else getattr(value, "__dict__", None)
    if isinstance(fields, Mapping):
        for name, item in fields.items():
            yield from _secret_texts(item, redactor, depth + 1, is_secret=is_secret or redactor.is_secret(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secret_texts(item, redactor, depth + 1, is_secret=is_secret)
