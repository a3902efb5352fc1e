"""Instants and times of day come back as they were, in every zone and at every hour."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
)

from workflow_engine.errors import PayloadError
from workflow_engine.payloads.schemas import Schema

BERLIN = ZoneInfo("Europe/Berlin")


def refusal(tp: Any, value: object) -> str:
    with pytest.raises(PayloadError) as caught:
        Schema.of(tp).store(value, what="output")
    return str(caught.value).removeprefix("Cannot store output: ")


def kept(tp: Any, value: Any) -> Any:
    schema = Schema.of(tp)
    text = schema.store(value, what="output")
    back = schema.decode(text, what="output")
    assert schema.encode(back, what="output") == text
    return back


ZONES = st.sampled_from([UTC, BERLIN, ZoneInfo("Australia/Lord_Howe"), timezone(timedelta(hours=5, minutes=45))])
INSTANTS = st.datetimes(datetime(1975, 1, 1), datetime(2037, 1, 1), timezones=ZONES)  # noqa: DTZ001 - given zones


class Stamped(BaseModel):
    at: datetime
    by: dict[datetime, Any] = {}
    all: frozenset[datetime] = frozenset()


@given(INSTANTS)
def test_an_instant_is_kept_whatever_its_zone(at: datetime) -> None:
    schema = Schema.of(Stamped)

    text = schema.store(Stamped(at=at, by={at: [1]}, all=frozenset({at})), what="output")
    back = schema.decode(text, what="output")

    assert back.at == at.astimezone(UTC)
    assert list(back.by) == list(back.all) == [at.astimezone(UTC)]


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("day", [date(2026, 10, 25), date(2026, 3, 29)], ids=["repeated", "skipped"])
def test_local_time_in_the_repeated_and_in_the_skipped_hour_is_kept(day: date, fold: int) -> None:
    at = datetime.combine(day, time(2, 30, fold=fold), tzinfo=BERLIN)
    schema = Schema.of(Stamped)

    back = schema.decode(schema.store(Stamped(at=at, by={at: {"x": at.isoformat()}}), what="output"), what="output")

    assert back.at == at.astimezone(UTC)
    assert list(back.by) == [at.astimezone(UTC)]


def test_a_datetime_that_knows_more_than_microseconds_is_refused() -> None:
    class Precise(datetime):
        """As pandas has it: equality sees nanoseconds that no dump shows."""

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Precise) and super().__eq__(other)

        __hash__ = datetime.__hash__

    assert "at: Precise comes back as datetime" in refusal(Stamped, Stamped(at=Precise(2026, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    "at",
    [time(1, 2, 3, 4), time(1, tzinfo=UTC), time(23, 59, tzinfo=timezone(timedelta(hours=-3))), time(2, 30, fold=1)],
    ids=repr,
)
def test_a_time_of_day_is_kept(at: time) -> None:
    assert kept(time, at) == at
