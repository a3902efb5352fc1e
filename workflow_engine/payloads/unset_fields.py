"""Which fields of a model were set: kept in the white space of the JSON text.

A tab before a key says that the field was left to its default. Every other reader of JSON takes it for the white
space that it is and sees the value, which stays what it was when a later release has another default. Pydantic
writes no white space, and inside of strings JSON has tabs escaped, so that such a tab can mean nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, Final

import pydantic_core
from pydantic import BaseModel, RootModel

from workflow_engine.payloads.text import decode_json, dump_escaped

MARK: Final = "\t"

_CONTAINERS: Final = frozenset({dict, list})


def mark_unset(text: str, value: object) -> str:
    """Return ``text``, the JSON text of ``value``, with a mark before each field that was not set."""
    prefix, escaped = _choose_prefix(text)
    return _dump(_mark(decode_json(text), value, prefix)).replace(escaped, f'{MARK}"')


def restore_unset(text: str, value: object) -> None:
    """Make the fields that ``text`` marks count as not set in ``value``, which was read from the text."""
    if MARK in text:
        prefix, tree = _read(text)
        _restore(tree, value, prefix)


def drop_unset(text: str) -> str:
    """Return ``text`` without the fields that were not set."""
    prefix, tree = _read(text)
    return _dump(_drop(tree, prefix))


def _choose_prefix(text: str) -> tuple[str, str]:
    """Return a prefix for marked keys with which no string in the text begins, and the JSON text of it."""
    number = 0
    while (escaped := f'"\\u0000{number}:') in text:
        number += 1
    return f"\x00{number}:", escaped


def _read(text: str) -> tuple[str, Any]:
    prefix, escaped = _choose_prefix(text)
    return prefix, decode_json(text.replace(f'{MARK}"', escaped))


def _dump(tree: object) -> str:
    try:
        return pydantic_core.to_json(tree, ensure_ascii=True).decode("ascii")
    except ValueError:  # lone surrogates
        return dump_escaped(tree)


def _mark(tree: Any, value: Any, prefix: str) -> Any:
    value, parts = _take_apart(tree, value)
    if parts is None:
        return tree
    if type(tree) is list:
        return [_mark(t, v, prefix) if type(t) in _CONTAINERS else t for t, v in zip(tree, parts, strict=True)]
    unset = type(value).model_fields.keys() - value.model_fields_set if isinstance(value, BaseModel) else ()
    return {
        f"{prefix}{key}" if key in unset else key: _mark(t, parts.get(key), prefix) if type(t) in _CONTAINERS else t
        for key, t in tree.items()
    }


def _restore(tree: Any, value: Any, prefix: str) -> None:
    value, parts = _take_apart(tree, value)
    if parts is None:
        return
    if type(tree) is list:
        pairs = zip(tree, parts, strict=True)
    else:
        pairs = zip(tree.values(), [parts.get(key.removeprefix(prefix)) for key in tree], strict=True)
    for item, part in pairs:
        if type(item) in _CONTAINERS:
            _restore(item, part, prefix)
    if isinstance(value, BaseModel):
        unset = [key.removeprefix(prefix) for key in tree if key.startswith(prefix)]
        value.__pydantic_fields_set__.difference_update(_with_default(type(value)).intersection(unset))


def _drop(tree: Any, prefix: str) -> Any:
    if type(tree) is dict:
        return {key: _drop(item, prefix) for key, item in tree.items() if not key.startswith(prefix)}
    return [_drop(item, prefix) for item in tree] if type(tree) is list else tree


def _take_apart(tree: Any, value: Any) -> tuple[Any, Any]:
    """Return ``value`` and its parts, by the keys or indexes that they have in ``tree``; None where these are uncertain."""
    while isinstance(value, RootModel):
        value = value.root
    if type(tree) is list:
        return value, value if isinstance(value, list | tuple | deque) and len(value) == len(tree) else None
    if isinstance(value, BaseModel):
        return value, vars(value)
    if isinstance(value, Mapping) and len(value) == len(tree):
        return value, value if value.keys() == tree.keys() else dict(zip(tree, value.values(), strict=True))
    if is_dataclass(value):
        return value, {name: getattr(value, name, None) for name in value.__dataclass_fields__}
    return value, None


@lru_cache(maxsize=1000)
def _with_default(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if not field.is_required())
