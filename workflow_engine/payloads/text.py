"""Payloads as ASCII JSON text: a stored value comes back as it was; one that would not is refused, with the place.

Text of plain ASCII survives every database and driver, NUL characters and lone surrogates included. Numbers keep
their exact value. NaN and the infinities have no JSON form and are refused; they never turn into null.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pydantic_core

from workflow_engine.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Deepest nesting of lists and objects; the parser itself ends one level later, so that a composed object still fits.
MAX_DEPTH: Final = 200
TOO_DEEP: Final = f"nested deeper than {MAX_DEPTH} levels"
#: Integers from here on have more than the 4,300 digits that Python and the parser convert.
INTEGER_LIMIT: Final = 10**4300

_LONGEST_PATH: Final = 200
_NOT_BRACKETS: Final = bytes(code for code in range(256) if code not in b"[]{}")


@dataclass(frozen=True, slots=True)
class Unstorable:
    """The place in a value that JSON cannot keep, and why."""

    path: str
    reason: str


def encode_json(value: object, *, what: str, max_bytes: int | None = None) -> str:
    """Return the ASCII JSON text of a plain value: None, bool, number, string, list, tuple, or dict with string keys.

    Args:
        value: The value; tuples come back as lists, everything else as it was.
        what: Names the value in errors, e.g. ``metadata of the run``.
        max_bytes: Longest text to accept.

    Raises:
        PayloadError: The value cannot be kept faithfully (the message names the path), or is too large.
    """
    text = _encode_plainly(value)
    if text is None:
        text = _encode_carefully(value, what)
    check_size(text, what=what, max_bytes=max_bytes)
    return text


def decode_json(text: str) -> Any:
    """Return the value of JSON text that ``encode_json`` or a schema wrote.

    Raises:
        PayloadError: ``text`` is not JSON.
    """
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return _decode_carefully(text)


def compose_object(parts: Mapping[str, str]) -> str:
    """Return the text of an object whose values are given as JSON text, without parsing them."""
    return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in parts.items()) + "}"


def check_size(text: str, *, what: str, max_bytes: int | None) -> None:
    """Refuse text that is longer than ``max_bytes``; ASCII text has one byte for each character.

    Raises:
        PayloadError: The text is too long.
    """
    if max_bytes is not None and len(text) > max_bytes:
        raise PayloadError(f"{what} is {len(text):,} bytes of JSON; at most {max_bytes:,} are allowed")


def is_too_deep(text: str) -> bool:
    """Tell whether JSON text nests deeper than ``MAX_DEPTH``.

    Ordinary text is told apart by peeling its brackets from the inside out, up to two levels a pass; only text
    that does not peel away (deep, or with brackets inside strings) is parsed.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    brackets = text.encode().translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH // 2):
        peeled = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    return bool(brackets) and _parser_gives_up(f"[{text}]")


def find_unstorable(value: object) -> Unstorable | None:
    """Return the first place of a plain value that JSON cannot keep, or None."""
    return find_refused(value, _parts_of, _refuse_scalar)


def find_refused(
    value: object,
    parts_of: Callable[[object], Iterable[tuple[int | str, object]] | None],
    refuse: Callable[[object], str | None],
    path: str = "",
    parents: tuple[int, ...] = (),
) -> Unstorable | None:
    """Return the first place where a value contains itself, nests too deeply, or is refused; None without one.

    Args:
        value: The value.
        parts_of: Returns the parts of a container by index or key, and None for a value without parts.
        refuse: Says why JSON cannot keep a value without parts; None where it can.
        path: Where ``value`` lies in the whole.
        parents: Ids of the containers that it lies in.
    """
    parts = parts_of(value)
    if parts is None:
        reason = refuse(value)
        return None if reason is None else Unstorable(path, reason)
    if id(value) in parents:
        return Unstorable(path, "the value contains itself")
    if len(parents) >= MAX_DEPTH:
        return Unstorable(path, TOO_DEEP)
    for key, item in parts:
        reason = _refuse_key(key) if isinstance(value, dict) else None
        if reason is not None:
            return Unstorable(path, reason)
        found = find_refused(item, parts_of, refuse, join_path(path, key), (*parents, id(value)))
        if found is not None:
            return found
    return None


def join_path(path: str, key: object) -> str:
    """Extend a path by a list index or an object key: ``rows[3].name``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else f"{key}"


def refusal(what: str, problem: Unstorable) -> PayloadError:
    """Return the error for a value that cannot be stored; it names the place and the reason."""
    path = problem.path if len(problem.path) <= _LONGEST_PATH else f"{problem.path[:80]} … {problem.path[-40:]}"
    place = f"{path}: " if path else ""
    return PayloadError(f"Cannot store {what}: {place}{problem.reason}")


def dump_escaped(value: object) -> str:
    """Encode plain JSON values with the standard library, which also escapes lone surrogates."""
    return json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))


def describe_number(number: float) -> str:
    """Say why a float cannot be kept."""
    return f"{number} has no JSON form"


def describe_error(error: Exception) -> str:
    """Say why a value could not be written as JSON, without the words that Pydantic puts before every reason."""
    return str(error).removeprefix("Error serializing to JSON: ").removeprefix("ValueError: ")


def _encode_plainly(value: object) -> str | None:
    """Encode at C speed; None where the text would not come back as the same value."""
    try:
        text = pydantic_core.to_json(value, inf_nan_mode="constants", ensure_ascii=True).decode("ascii")
        # An extra list around the text lowers the parser's own limit to MAX_DEPTH.
        faithful = pydantic_core.from_json(f"[{text}]", allow_inf_nan=False) == [value]
    except (ValueError, TypeError, RecursionError):
        return None
    return text if faithful is True else None


def _encode_carefully(value: object, what: str) -> str:
    problem = find_unstorable(value)
    if problem is not None:
        raise refusal(what, problem)
    return dump_escaped(value)


def _decode_carefully(text: str) -> Any:
    """Parse what pydantic-core refuses: lone surrogates."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"Stored text is not JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parser_gives_up(text: str) -> bool:
    try:
        pydantic_core.from_json(text)
    except ValueError as error:
        return "recursion limit" in str(error)
    return False


def _parts_of(value: object) -> Iterable[tuple[Any, object]] | None:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else None


def _refuse_key(key: object) -> str | None:
    if not isinstance(key, str):
        return f"the key {key!r} is {type(key).__name__}, not a string"
    return _refuse_text(key)


def _refuse_scalar(value: object) -> str | None:
    match value:
        case None | bool():
            return None
        case str():
            return _refuse_text(value)
        case int():
            return None if abs(value) < INTEGER_LIMIT else "the integer has more than 4,300 digits"
        case float():
            return None if math.isfinite(value) else describe_number(value)
        case _:
            return f"{type(value).__name__} is not a JSON value"


def _refuse_text(text: str) -> str | None:
    """Refuse only the one kind of string that JSON merges: two lone surrogates that together make a character."""
    if text.isascii() or json.loads(json.dumps(text)) == text:
        return None
    return "two separate surrogates would merge into one character"
