"""Checks of arguments that definitions share; each error names the argument."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from workflow_engine.clock import find_duration_problem
from workflow_engine.names import QUEUE_NAME
from workflow_engine.payloads.secrets import clean_text

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


def is_valid_id(value: object) -> bool:
    """Tell whether ``value`` can be the id of a stage or workflow."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def describe_id(kind: str, value: object) -> str:
    """Say what is wrong with an id that ``is_valid_id`` refuses."""
    return (
        f"{kind} id {value!r} is not valid: ids are 1 to 100 characters of a-z, 0-9, _ and -, "
        "and start with a letter or digit"
    )


def check_duration(name: str, value: object, *, zero: bool = False) -> None:
    """Refuse anything but a positive (or zero, if allowed) timedelta of at most a hundred years.

    Raises:
        TypeError: ``value`` is not a timedelta.
        ValueError: It is negative, zero or too long.
    """
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be a timedelta, not {type(value).__name__}")
    problem = find_duration_problem(value, zero=zero)
    if problem is not None:
        raise ValueError(f"{name} {problem}")


def check_optional_duration(name: str, value: object) -> None:
    """Refuse anything but None and a positive timedelta."""
    if value is not None:
        check_duration(name, value)


def check_whole_number(name: str, value: object, *, least: int) -> None:
    """Refuse anything but an int of at least ``least``; True and False are not numbers.

    Raises:
        TypeError: ``value`` is not an int.
        ValueError: It is too small.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_number(name: str, value: object) -> None:
    """Refuse anything but a finite number.

    Raises:
        TypeError: ``value`` is not an int or float.
        ValueError: It is NaN or infinite.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def check_fraction(name: str, value: object) -> None:
    """Refuse anything but a number from 0 to 1.

    Raises:
        ValueError: It is out of range.
    """
    check_number(name, value)
    if not 0 <= value <= 1:  # type: ignore[operator] # check_number left only numbers
        raise ValueError(f"{name} must be from 0 to 1, got {value}")


def check_metrics(name: str, value: object) -> None:
    """Refuse anything but None and a mapping of names to finite numbers.

    Raises:
        TypeError: It is not a mapping, or a name is not a string.
    """
    for key, number in check_mapping(name, value, kind="mapping of names to numbers").items():
        check_number(f"{name}[{key!r}]", number)


def check_mapping(name: str, value: object, *, kind: str = "mapping") -> Mapping[str, Any]:
    """Return a mapping with string keys, and an empty one for None.

    Raises:
        TypeError: It is not a mapping, or a key is not a string.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a {kind}, not {type(value).__name__}")
    for key in value:
        check_name(f"a key of {name}", key)
    return value


def check_name(name: str, value: Any) -> None:
    """Refuse anything but a string that every database stores.

    Raises:
        TypeError: It is not a string.
        ValueError: It holds a NUL or half a surrogate pair.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if value != clean_text(value):
        raise ValueError(f"{name} holds characters that cannot be stored, or is too long: {value[:60]!r}")


def check_queue(queue: Any) -> None:
    """Refuse anything but the name of a queue.

    Raises:
        TypeError: It is not a string.
        ValueError: It is not 1 to 100 letters, digits, ``_``, ``.`` and ``-``, the first one a letter or digit.
    """
    check_name("queue", queue)
    if not re.fullmatch(QUEUE_NAME, queue):
        raise ValueError(f"queue must be 1 to 100 letters, digits, '_', '.' and '-', got {queue[:120]!r}")


def to_cost(cost: Decimal | float | None) -> Decimal:
    """Return the cost as a decimal; a float keeps the digits that it is printed with.

    Raises:
        TypeError: ``cost`` is not a number.
        ValueError: It is negative, NaN or infinite.
    """
    if cost is None:
        return Decimal(0)
    if isinstance(cost, bool) or not isinstance(cost, Decimal | int | float):
        raise TypeError(f"cost must be a Decimal or a number, not {type(cost).__name__}")
    if not math.isfinite(cost) or cost < 0:
        raise ValueError(f"cost must be a finite number of zero or more, got {cost}")
    return cost if isinstance(cost, Decimal) else Decimal(str(cost))
