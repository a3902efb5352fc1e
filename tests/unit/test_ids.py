"""Ids are UUIDv7: unique, and sorted by the time they were made."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

import pytest

from workflow_engine.ids import new_id


def test_an_id_is_a_uuid_of_version_seven() -> None:
    parsed = UUID(new_id())

    assert parsed.version == 7
    assert parsed.variant == RFC_4122


def test_an_id_begins_with_the_milliseconds_of_its_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 0x0190_ABCD_1234 * 1_000_000 + 999_999)

    assert new_id().startswith("0190abcd-1234-7")


def test_later_ids_sort_after_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    milliseconds = iter(range(1_700_000_000_000, 1_700_000_000_050))
    monkeypatch.setattr(time, "time_ns", lambda: next(milliseconds) * 1_000_000)

    ids = [new_id() for _ in range(50)]

    assert ids == sorted(ids)


def test_ids_of_one_instant_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)

    ids = {new_id() for _ in range(1_000)}

    assert len(ids) == 1_000
