"""Options that several commands have, and the types of options: durations, JSON values, key=value pairs, statuses."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click
from typing_extensions import override

from workflow_engine.clock import LONGEST_DURATION
from workflow_engine.lifecycle import RunStatus

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


class DurationType(click.ParamType):  # type: ignore[type-arg] # generic in newer versions of click only
    """A duration such as ``30s``, ``5m``, ``1h30m``, ``30d``."""

    name = "duration"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        text = str(value).strip()
        if not text or _DURATION.sub("", text).strip():
            self.fail(f"{text!r} is not a duration; write it as 30s, 5m, 1h30m or 30d", param, ctx)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
        if seconds > LONGEST_DURATION.total_seconds():
            self.fail(f"{text!r} is longer than {LONGEST_DURATION.days:,} days", param, ctx)
        return timedelta(seconds=seconds)


class JsonType(click.ParamType):  # type: ignore[type-arg] # generic in newer versions of click only
    """A JSON value, ``@file`` to read it from a file, or ``-`` for standard input."""

    name = "json"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(self._read(value))
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)
        except OSError as error:
            self.fail(f"cannot read {value[1:]}: {error.strerror}", param, ctx)

    @staticmethod
    def _read(value: str) -> str:
        if value == "-":
            return sys.stdin.read()
        return Path(value[1:]).read_text("utf-8") if value.startswith("@") else value


class PairType(click.ParamType):  # type: ignore[type-arg] # generic in newer versions of click only
    """``key=value``; the value is JSON where it parses as such, else text."""

    name = "key=value"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        key, sign, text = str(value).partition("=")
        if not sign or not key:
            self.fail(f"{value!r} is not of the form key=value", param, ctx)
        try:
            return key, json.loads(text)
        except ValueError:
            return key, text


DURATION = DurationType()
JSON = JsonType()
PAIR = PairType()
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")

RUN_STATUS = click.Choice([status.value for status in RunStatus], case_sensitive=False)
