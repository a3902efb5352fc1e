"""Checks of the arguments of public methods; each refusal names the argument, its value and the expected values."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from workflow_engine.clock import find_duration_problem, instant_to_ms
from workflow_engine.errors import InvalidDataError, InvalidRequestError
from workflow_engine.names import among
from workflow_engine.payloads.secrets import clean_text

if TYPE_CHECKING:
    from enum import StrEnum

StatusT = TypeVar("StatusT", bound="StrEnum")

LONGEST_IDEMPOTENCY_KEY: Final = 255
#: The largest number that every column of whole numbers holds.
LARGEST_NUMBER: Final = 2**31 - 1
#: Most items of one page.
MOST_ITEMS: Final = 1000
_LONGEST_SHOWN: Final = 80


def check_text(name: str, value: object, *, longest: int) -> str:
    """Return a text of 1 to ``longest`` characters that every database stores.

    Raises:
        InvalidDataError: It is something else.
    """
    if not isinstance(value, str) or not 0 < len(value) <= longest or value != clean_text(value):
        raise InvalidDataError(name, [f"must be a text of 1 to {longest} printable characters"])
    return value


def check_string(name: str, value: object) -> str:
    """Return a string.

    Raises:
        InvalidRequestError: It is not a string.
    """
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a string, got {show(value)}")
    return value


def check_number(name: str, value: object, *, least: int = 0, most: int = LARGEST_NUMBER) -> int:
    """Return a whole number within its bounds; True and False are none.

    Raises:
        InvalidRequestError: It is something else, or out of bounds.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidRequestError(f"{name} must be a whole number from {least:,} to {most:,}, got {show(value)}")
    return value


def check_flag(name: str, value: object) -> bool:
    """Return True or False.

    Raises:
        InvalidRequestError: It is something else.
    """
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be True or False, got {show(value)}")
    return value


def check_duration(name: str, value: object, *, zero: bool = False) -> timedelta:
    """Return a duration that is positive, or zero where that is allowed, and at most a hundred years.

    Raises:
        InvalidRequestError: It is something else; a bare number has no unit.
    """
    if not isinstance(value, timedelta):
        raise InvalidRequestError(f"{name} must be a timedelta, got {show(value)}")
    problem = find_duration_problem(value, zero=zero)
    if problem is not None:
        raise InvalidRequestError(f"{name} {problem}")
    return value


def check_instant(name: str, value: object) -> datetime | None:
    """Return an aware instant, or None for None.

    Raises:
        InvalidRequestError: It is something else, naive, or out of range.
    """
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidRequestError(f"{name} must be an aware datetime, got {show(value)}")
    try:
        instant_to_ms(value)
    except ValueError as error:
        raise InvalidRequestError(f"{name}: {error}") from None
    return value


def read_statuses(kind: type[StatusT], value: object, *, name: str = "status") -> tuple[StatusT, ...]:
    """Return one status, or several, given by themselves or by their names.

    Raises:
        InvalidRequestError: One is unknown.
    """
    several = value if isinstance(value, Collection) and not isinstance(value, str) else [value]
    return tuple(_read_status(kind, one, name) for one in several)


def _read_status(kind: type[StatusT], value: object, name: str) -> StatusT:
    try:
        return kind(value)  # type: ignore[arg-type] # anything but the name of a status is refused below
    except ValueError:
        there = among(value, (status.value for status in kind), kind="there are")
        raise InvalidRequestError(f"{name} {show(value)} is unknown{there}") from None


def show(value: object) -> str:
    """Return the representation of a value, short enough for a line."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a value that cannot be shown is still refused
        text = "?"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
