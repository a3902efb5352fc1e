"""Values as people read them: durations, instants, ids, amounts and sizes. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from decimal import Decimal

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_AGES: Final = ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute"), (1, "second"))
_DASH: Final = "–"  # noqa: RUF001 - a dash for "nothing" is meant


def format_duration(duration: timedelta | None) -> str:
    """Return ``340 ms``, ``2.4 s``, ``3 min 5 s``, ``2 h 10 min`` or ``3 d 4 h``; a dash for None."""
    if duration is None:
        return _DASH
    seconds = duration.total_seconds()
    if seconds < 0.9995:  # noqa: PLR2004 - what rounds to 1,000 ms is a second
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return _two_units(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two_units(whole, _HOUR, "h", _MINUTE, "min")
    return _two_units(whole, _DAY, "d", _HOUR, "h")


def format_age(instant: datetime | None, now: datetime) -> str:
    """Return how long ago an instant was, or how soon it is, in its largest unit: ``3 hours ago``, ``in 2 days``."""
    if instant is None:
        return _DASH
    seconds = (now - instant).total_seconds()
    for length, unit in _AGES:
        count = int(abs(seconds) // length)
        if count:
            words = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "now"


def format_instant(instant: datetime | None) -> str:
    """Return an instant in the time zone of this machine, to the second; a dash for None."""
    return instant.astimezone().strftime("%Y-%m-%d %H:%M:%S") if instant else _DASH


def format_time(instant: datetime) -> str:
    """Return the time of day of an instant in the time zone of this machine, to the millisecond."""
    return instant.astimezone().strftime("%H:%M:%S.%f")[:-3]


def format_cost(cost: Decimal) -> str:
    """Return an amount with as many decimals as it needs, two at least."""
    text = f"{cost:,.9f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"


def format_fields(fields: Mapping[str, Any]) -> str:
    """Return ``key=value`` pairs, values as JSON where they are not plain words."""
    return " ".join(f"{key}={_format_value(value)}" for key, value in fields.items())


def format_json(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def one_line(text: str, limit: int = 300) -> str:
    """Return ``text`` on one line, shortened to ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def format_count(count: int, thing: str) -> str:
    """Return ``1 run``, ``1,200 runs``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _two_units(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    count, rest = divmod(seconds, large)
    second = f" {rest // small} {small_name}" if rest // small else ""
    return f"{count} {large_name}{second}"


def _format_value(value: Any) -> str:
    if isinstance(value, str) and value and not set(value) & set(' "\n\t='):
        return value
    return format_json(value)
