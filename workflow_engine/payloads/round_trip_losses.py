"""Compare a value with the one that its JSON text gives back, and find the places that JSON cannot keep."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, time
from enum import Enum
from types import NoneType
from typing import Any, Final

import pydantic_core
from pydantic import BaseModel, RootModel

from workflow_engine.payloads.text import (
    Unstorable,
    describe_error,
    describe_number,
    find_refused,
    find_unstorable,
    join_path,
)

_MISSING: Final = object()
_SCALARS: Final = frozenset({str, int, float, bool, NoneType})


def find_loss(before: object, after: object, *, leaves: bool = True) -> Unstorable | None:
    """Return the first place where ``after`` differs from ``before``, or None.

    Values are compared, not their dumps: the types of models and of other values, all fields, extra fields and
    private attributes. A tuple may come back as a list, and any mapping as a dict. Aware datetimes are the same if they are the same instant.
    Objects that cannot be compared are the same if their attributes are.

    Args:
        before: The value as it was.
        after: The value that came back.
        leaves: False compares only the things that ``take_apart`` loses: classes, private attributes, and fields
            that no validator sets.
    """
    try:
        loss = _Comparison(leaves=leaves).compare(before, after)
    except RecursionError:
        return Unstorable("", "the value is nested too deeply, or contains itself, and cannot be compared")
    return None if loss is None else Unstorable(loss.path, loss.reason)


def find_unserializable(value: object) -> Unstorable | None:
    """Return the first place of any Python value that has no JSON form, contains itself, or nests too deeply."""
    return find_refused(value, _parts_of, _refuse_leaf)


def take_apart(value: Any, *, all_fields: bool = True) -> Any:
    """Return ``value`` with models and dataclasses as mappings of their fields; serializers are not asked.

    Args:
        value: Any value.
        all_fields: False leaves out the fields that a model left to their defaults, which Pydantic does not validate.
    """
    if isinstance(value, RootModel):
        return take_apart(value.root, all_fields=all_fields)
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        fields = list_fields(value, all_fields=all_fields)
        return {name: take_apart(item, all_fields=all_fields) for name, item in fields.items()}
    if isinstance(value, Mapping):
        return {key: take_apart(item, all_fields=all_fields) for key, item in value.items()}
    if type(value) in {list, tuple, deque}:
        return type(value)(take_apart(item, all_fields=all_fields) for item in value)
    return value


def list_fields(value: Any, *, all_fields: bool = True) -> dict[str, Any]:
    """Return the fields of a model or dataclass that its validator takes, as they are."""
    if not isinstance(value, BaseModel):
        names = [field.name for field in dataclasses.fields(value) if field.init and hasattr(value, field.name)]
        return {name: getattr(value, name) for name in names}
    fields = type(value).model_fields
    kept = {name: item for name, item in vars(value).items() if name in fields}
    if not all_fields:
        kept = {name: item for name, item in kept.items() if not _is_left_to_default(value, name, item)}
    return {**kept, **(value.__pydantic_extra__ or {})}


def _is_left_to_default(model: BaseModel, name: str, item: object) -> bool:
    field = type(model).model_fields[name]
    return name not in model.model_fields_set and not field.is_required() and _equal(item, field.default)


class _Comparison:
    """One comparison; remembers which objects it is inside of, because only JSON values are sure not to have cycles.

    Each method returns the first loss, or None. The path of a loss is built on the way back, from its end.
    """

    def __init__(self, *, leaves: bool) -> None:
        self._leaves = leaves
        self._inside: set[int] = set()

    def compare(self, before: Any, after: Any) -> _Loss | None:
        kind = type(before)
        if before is after:
            return None
        if kind is type(after):
            if kind in _SCALARS and before == after:
                return None
            if kind is dict:
                return self._compare_mappings(before, after)
            if kind is list and len(before) == len(after):
                return self._compare_sequences(before, after)
        return self._compare_others(before, after)

    def _compare_others(self, before: Any, after: Any) -> _Loss | None:
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            return self._compare_models(before, after)
        if dataclasses.is_dataclass(before) and type(before) is type(after):
            return self._compare_dataclasses(before, after)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            return self._compare_mappings(before, after)
        if isinstance(before, list | tuple | deque) and _fits_sequence(before, after):
            return self._compare_sequences(before, after)
        if isinstance(before, AbstractSet) and isinstance(after, AbstractSet) and len(before) == len(after):
            return self._compare_sets(before, after)
        return self._compare_leaves(before, after)

    def _compare_sequences(self, before: Iterable[Any], after: Iterable[Any]) -> _Loss | None:
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            loss = self.compare(one, other)
            if loss is not None:
                return loss.within(index)
        return None

    def _compare_mappings(self, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> _Loss | None:
        for key, item in before.items():
            other = after.get(key, _MISSING)
            if other is _MISSING or type(key) is not str:
                other = _find_entry(key, after)
            if other is _MISSING:
                return _Loss(f"the key {key!r} ({type(key).__name__}) does not come back")
            loss = self.compare(item, other)
            if loss is not None:
                return loss.within(str(key))
        return None if len(before) == len(after) else _Loss("keys come back that were not there")

    def _compare_sets(self, before: AbstractSet[Any], after: AbstractSet[Any]) -> _Loss | None:
        others = {_key(item): item for item in after}
        losses = (self.compare(item, others.get(_key(item), _MISSING)) for item in before)
        return next((loss for loss in losses if loss is not None), None)

    def _compare_models(self, before: BaseModel, after: BaseModel) -> _Loss | None:
        if _class_of(before) is not _class_of(after):
            return _Loss(_reason(before, after))
        loss = self._compare_attributes(_fields_of(type(before)), vars(before), vars(after))
        if loss is None and before.__pydantic_extra__:
            loss = self._compare_mappings(before.__pydantic_extra__, after.__pydantic_extra__ or {})
        private = before.__pydantic_private__
        if loss is None and private:
            loss = self._compare_attributes(dict.fromkeys(private, _PRIVATE), private, after.__pydantic_private__ or {})
        return loss

    def _compare_dataclasses(self, before: Any, after: Any) -> _Loss | None:
        fields = {field.name: None if field.init else _NOT_INIT for field in dataclasses.fields(before)}
        one, other = ({name: getattr(value, name, _MISSING) for name in fields} for value in (before, after))
        return self._compare_attributes(fields, one, other)

    def _compare_attributes(
        self, names: Mapping[str, str | None], before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> _Loss | None:
        """Compare attributes; one with a reason is not stored, for that reason, and its leaves always count."""
        for name, hidden in names.items():
            comparison = self if hidden is None else _Comparison(leaves=True)
            loss = comparison.compare(before.get(name, _MISSING), after.get(name, _MISSING))
            if loss is not None:
                return loss.within(name) if hidden is None else _Loss(hidden).within(name)
        return None

    def _compare_leaves(self, before: object, after: object) -> _Loss | None:
        if not self._leaves and not isinstance(before, BaseModel) and not dataclasses.is_dataclass(before):
            return None
        if not _is_same_kind(before, after):
            return _Loss(_reason(before, after))
        if _is_comparable(before):
            return None if _same(before, after) else _Loss(_reason(before, after))
        if id(before) in self._inside:
            return None
        self._inside.add(id(before))
        loss = self._compare_mappings(_state_of(before), _state_of(after))
        self._inside.discard(id(before))
        return loss


class _Loss:
    """A reason, and the path to the lost part, which each container on the way back extends by its own key."""

    __slots__ = ("_parts", "reason")

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self._parts: list[int | str] = []

    def within(self, part: int | str) -> _Loss:
        self._parts.append(part)
        return self

    @property
    def path(self) -> str:
        return functools.reduce(join_path, reversed(self._parts), "")


_EXCLUDED: Final = "is excluded from dumps (exclude=True), so that its default would come back instead of the value"
_PRIVATE: Final = "a private attribute is not stored, so that its default would come back instead of the value"
_NOT_INIT: Final = "no validator sets a field with init=False, so that its default would come back instead of the value"


@functools.lru_cache(maxsize=1000)
def _fields_of(model: type[BaseModel]) -> dict[str, str | None]:
    """Return the fields, with the reason why one is not stored."""
    return {name: _EXCLUDED if field.exclude else None for name, field in model.model_fields.items()}


def _class_of(model: BaseModel) -> type:
    """Return the class; for a generic model the one that was not parametrised, as Pydantic compares models."""
    cls: type = type(model).__pydantic_generic_metadata__["origin"] or type(model)
    return cls


def _fits_sequence(before: Any, after: object) -> bool:
    """Tell whether one sequence may have come back as the other; only a plain tuple may come back as a list."""
    if not isinstance(after, list | tuple | deque) or len(before) != len(after):
        return False
    return type(before) is type(after) or not (hasattr(before, "_fields") or isinstance(before, deque))


def _find_entry(key: Any, entries: Mapping[Any, Any]) -> Any:
    """Return the entry of the same key: one of the same type, and for an aware datetime one of the same instant."""
    wanted = _key(key)
    return next((item for k, item in entries.items() if _key(k) == wanted and _is_same_kind(key, k)), _MISSING)


def _key(key: Any) -> Any:
    return _in_utc(key) if isinstance(key, datetime) else key


def _in_utc(instant: datetime) -> datetime:
    """Return an aware datetime in UTC: in the hour that a zone repeats, it equals no datetime of another zone."""
    return instant if instant.utcoffset() is None else instant.astimezone(UTC)


def _is_same_kind(before: object, after: object) -> bool:
    """Tell whether the types are the same, or a subclass of a scalar came back as the scalar; enums do not."""
    if type(before) is type(after):
        return True
    return (
        isinstance(after, str | int | float | datetime)
        and isinstance(before, type(after))
        and not (isinstance(before, Enum | bool))
    )


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, datetime):
        return _equal(_in_utc(before), _in_utc(after))
    if isinstance(before, time):
        # A zone without a date has no offset; the zone is not written then, and equality does not see that.
        return _equal(before, after) and (before.tzinfo is None) is (after.tzinfo is None)
    is_nan = isinstance(before, float) and math.isnan(before) and math.isnan(after)
    return is_nan or _equal(before, after)


def _equal(before: object, after: object) -> bool:
    try:
        return bool(before == after)
    except Exception:  # noqa: BLE001 - __eq__ of users, arrays
        return False


def _is_comparable(value: object) -> bool:
    return type(value).__eq__ is not object.__eq__


def _state_of(value: object) -> dict[str, object]:
    """Return the attributes of an object, those in slots included."""
    slots = [name for cls in type(value).__mro__ for name in _slots_of(cls) if hasattr(value, name)]
    return {name: getattr(value, name) for name in slots} | dict(getattr(value, "__dict__", {}))


def _slots_of(cls: type) -> Iterable[str]:
    slots: str | Iterable[str] = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


def _reason(before: object, after: object) -> str:
    if hasattr(before, "get_secret_value"):
        return "a secret cannot be stored; store a reference to it"
    if isinstance(before, float) and not math.isfinite(before):
        return describe_number(before)
    if after is _MISSING:
        return f"the {type(before).__name__} does not come back"
    if type(before) is type(after):
        return f"the {type(before).__name__} comes back changed"
    return f"{type(before).__name__} comes back as {type(after).__name__}; give the field a type that JSON can restore"


def _parts_of(value: object) -> Iterable[tuple[int | str, object]] | None:
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
        return f"{type(value).__name__} is not a JSON value ({describe_error(error)})"
    return None
