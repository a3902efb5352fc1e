"""Keep secrets out of records and screens: values under telling names are replaced, and texts are made storable.

There is one list of telling names, the setting ``redact_keys``. The engine works inside of ``redacting``, so that code
without settings (schemas, whose messages quote values) goes by the same list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

REPLACEMENT = "[redacted]"

#: Parts of names whose values are secrets, where no settings say otherwise.
DEFAULT_WORDS: Final = (
    *("api_key", "apikey", "api-key", "token", "secret", "passw", "passphrase", "authorization", "credential"),
    *("private_key", "privatekey", "private-key"),
)
_MAX_TEXT = 64 * 1024


def clean_text(text: str, limit: int = _MAX_TEXT) -> str:
    """Return ``text`` so that every database stores it: no NUL, no lone surrogate, at most ``limit`` characters."""
    storable = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")
    return storable if len(storable) <= limit else f"{storable[: limit - 20]}… [truncated]"


class Redactor:
    """Replaces the values of keys whose names contain one of the given words, whatever their case.

    The plural of ``token`` is a number of them and no secret: ``max_tokens``.

    Args:
        words: Substrings of key names, e.g. ``api_key``; none means that nothing is replaced.
    """

    def __init__(self, words: Sequence[str]) -> None:
        names = "|".join(map(_pattern_of, words))
        self._names = re.compile(names, re.IGNORECASE) if words else None
        # key=value, key: value, "key": "value", Authorization: Bearer value; a bare number is no secret.
        # Each word is looked at once and as a whole, (?>…) and ++, so that the time grows with the text and no faster.
        self._pairs = (
            re.compile(
                rf"""(?ix) ( (?<![\w-]) (?>(?=[\w-]*?(?:{names}))[\w-]++) ["']? \s*+ [=:] \s*+ ["']? (?:bearer\s+|basic\s+)? )
                     (?! \d+ (?:\W|$) | {re.escape(REPLACEMENT)} ) ( [^\s"',;&}}\)]+ )"""
            )
            if words
            else None
        )

    def is_secret(self, name: object) -> bool:
        """Tell whether a value of that name is a secret."""
        return self._names is not None and isinstance(name, str) and self._names.search(name) is not None

    def text(self, text: str) -> str:
        """Return ``text`` with the values of telling ``key=value`` pairs replaced, storable."""
        cleaned = clean_text(text)
        return self._pairs.sub(rf"\1{REPLACEMENT}", cleaned) if self._pairs else cleaned

    def value(self, value: Any) -> Any:
        """Return a copy of ``value`` to be recorded: secrets are replaced, also in its texts; numbers are none."""
        return self._copy(value, is_recorded=True)

    def data(self, value: Any) -> Any:
        """Return a copy of a recorded ``value`` to be shown: secrets are replaced, also numbers; its texts stay."""
        return self._copy(value, is_recorded=False)

    def _copy(self, value: Any, *, is_recorded: bool, is_secret: bool = False) -> Any:
        """Copy a value; the value of a telling name is replaced whole."""
        if is_secret and value is not None and not (is_recorded and isinstance(value, int | float)):
            return REPLACEMENT
        if isinstance(value, Mapping):
            items = value.items()
            return {
                key: self._copy(item, is_recorded=is_recorded, is_secret=self.is_secret(key)) for key, item in items
            }
        if isinstance(value, list | tuple):
            return [self._copy(item, is_recorded=is_recorded) for item in value]
        return self.text(value) if is_recorded and isinstance(value, str) else value


def _pattern_of(word: str) -> str:
    return re.escape(word) + ("(?!s(?![a-z]))" if word.lower().endswith("token") else "")


_DEFAULT: Final = Redactor(DEFAULT_WORDS)
_active: ContextVar[Redactor] = ContextVar("workflow_engine_redactor", default=_DEFAULT)


@contextmanager
def redacting(redactor: Redactor) -> Iterator[None]:
    """Let messages about values go by ``redactor`` inside the block, also in threads that run in its context."""
    token = _active.set(redactor)
    try:
        yield
    finally:
        _active.reset(token)


def active_redactor() -> Redactor:
    """Return the redactor of the enclosing ``redacting``; outside of any, one with the default words."""
    return _active.get()
