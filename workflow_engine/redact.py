"""Keep secrets out of what is recorded: texts made storable, values of telling keys replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

REPLACEMENT = "[redacted]"
_MAX_TEXT = 64 * 1024


def clean_text(text: str, limit: int = _MAX_TEXT) -> str:
    """Return ``text`` so that every database stores it: no NUL, no lone surrogate, at most ``limit`` characters."""
    storable = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")
    return storable if len(storable) <= limit else f"{storable[: limit - 20]}… [truncated]"


class Redactor:
    """Replaces the values of keys whose names contain one of the given words, whatever their case.

    Args:
        words: Substrings of key names, e.g. ``api_key``; none means that nothing is replaced.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._names = re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None
        # key=value, key: value, "key": "value", Authorization: Bearer value; a bare number is no secret.
        # Each word is looked at once and as a whole, (?>…) and ++, so that the time grows with the text and no faster.
        self._pairs = (
            re.compile(
                rf"""(?ix) ( (?<![\w-]) (?>(?=[\w-]*?(?:{"|".join(map(re.escape, words))}))[\w-]++) ["']? \s*+ [=:] \s*+ ["']? (?:bearer\s+|basic\s+)? )
                     (?! \d+ (?:\W|$) | \[redacted\] ) ( [^\s"',;&}}\)]+ )"""
            )
            if words
            else None
        )

    def text(self, text: str) -> str:
        """Return ``text`` with the values of telling ``key=value`` pairs replaced, storable."""
        cleaned = clean_text(text)
        return self._pairs.sub(rf"\1{REPLACEMENT}", cleaned) if self._pairs else cleaned

    def value(self, value: Any) -> Any:
        """Return a copy of ``value`` with the values of telling keys replaced, at any depth."""
        if isinstance(value, Mapping):
            return {key: self._entry(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def _entry(self, key: object, item: Any) -> Any:
        is_number = isinstance(item, int | float)
        if self._names and isinstance(key, str) and self._names.search(key) and item is not None and not is_number:
            return REPLACEMENT
        return self.value(item)
