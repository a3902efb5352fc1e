"""Where a value cannot go through JSON, and what it lost on the way: only looked for after something went wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pydantic_core

from workflow_engine.payload import MAX_DEPTH, Unstorable, describe_number, find_unstorable, join_path

_MISSING: Final = object()


def find_loss(before: object, after: object) -> Unstorable | None:
    """Return the first place where ``after`` is not what ``before`` was, or None.

    A tuple may come back as a list. Objects of one type that cannot be compared count as equal.

    Args:
        before: The value as it was, as plain containers.
        after: The value that came back, likewise.
    """
    return next(_compare(before, after, ""), None)


def find_unserializable(value: object) -> Unstorable | None:
    """Return the first place of any Python value that has no JSON form, contains itself, or nests too deeply."""
    return next(_search(value, "", ()), None)


def _search(value: object, path: str, parents: tuple[int, ...]) -> Iterator[Unstorable]:
    children = _children(value)
    if children is None:
        reason = _refuse_leaf(value)
        if reason is not None:
            yield Unstorable(path, reason)
    elif id(value) in parents:
        yield Unstorable(path, "the value contains itself")
    elif len(parents) >= MAX_DEPTH:
        yield Unstorable(path, f"nested deeper than {MAX_DEPTH} levels")
    else:
        for key, item in children:
            yield from _search(item, join_path(path, key), (*parents, id(value)))


def _children(value: object) -> Iterable[tuple[int | str, object]] | None:
    if isinstance(value, Mapping):
        return ((str(key), item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return enumerate(value)
    fields = getattr(type(value), "model_fields", None) or getattr(type(value), "__dataclass_fields__", None)
    return None if fields is None else ((name, getattr(value, name, None)) for name in fields)


def _refuse_leaf(value: object) -> str | None:
    problem = find_unstorable(value) if isinstance(value, str | int | float) else None
    if problem is not None:
        return problem.reason
    try:
        pydantic_core.to_json(value if not isinstance(value, str) else None)
    except (ValueError, TypeError) as error:
        reason = str(error).removeprefix("Error serializing to JSON: ").removeprefix("ValueError: ")
        return f"{type(value).__name__} is not a JSON value ({reason})"
    return None


def _compare(before: object, after: object, path: str) -> Iterator[Unstorable]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _compare_objects(before, after, path)
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _compare(*pair, join_path(path, index))
    elif not _same(before, after):
        yield Unstorable(path, _reason(before, after))


def _compare_objects(before: Mapping[Any, Any], after: Mapping[Any, Any], path: str) -> Iterator[Unstorable]:
    for key, item in before.items():
        other = after.get(key, _MISSING)
        if other is _MISSING:
            yield Unstorable(path, f"the key {key!r} ({type(key).__name__}) does not come back")
        else:
            yield from _compare(item, other, join_path(path, str(key)))


def _same(before: object, after: object) -> bool:
    if isinstance(before, float) and isinstance(after, float) and math.isnan(before) and math.isnan(after):
        return True
    if type(before) is not type(after) and not (isinstance(before, str) and isinstance(after, str)):
        return False
    return _equal(before, after) or not _is_comparable(before)


def _equal(before: object, after: object) -> bool:
    try:
        return bool(before == after)
    except Exception:  # noqa: BLE001 - __eq__ of users, arrays
        return False


def _is_comparable(value: object) -> bool:
    return type(value).__eq__ is not object.__eq__


def _reason(before: object, after: object) -> str:
    if hasattr(before, "get_secret_value"):
        return "a secret cannot be stored; store a reference to it"
    if isinstance(before, float) and not math.isfinite(before):
        return describe_number(before)
    if type(before) is type(after):
        return f"the {type(before).__name__} comes back changed"
    return f"{type(before).__name__} comes back as {type(after).__name__}; give the field a type that JSON can restore"
