"""The team's own checks of its project; they pass, or fail, alike with the engine and without it."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

import house
import pytest
from celery import chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded

PATIENCE = 60
IS_EAGER = bool(os.environ.get("HOUSE_EAGER"))
against_workers = pytest.mark.skipif(IS_EAGER, reason="asks the workers")


def get(result: Any) -> Any:
    return result.get(timeout=PATIENCE)


def count(key: str, entry: str) -> int:
    return house.notes.lrange(key, 0, -1).count(entry)


def wait_for_note(key: str, entry: str, before: int) -> None:
    pause = house.threading.Event()
    for _ in range(PATIENCE * 20):
        if count(key, entry) > before:
            return
        pause.wait(0.05)
    pytest.fail(f"{entry!r} was not noted under {key!r}")


@against_workers
def test_tasks_of_every_priority_are_executed() -> None:
    results = {priority: house.echo.apply_async((priority,), priority=priority) for priority in range(10)}

    assert {priority: get(result)["priority"] for priority, result in results.items()} == {p: p for p in range(10)}


@against_workers
def test_defaults_routes_annotations_and_signals_reach_a_task() -> None:
    answer = get(house.echo.delay({"a": [1, "ä"]}))

    assert answer == {
        "value": {"a": [1, "ä"]},
        "type": "dict",
        "mark": "annotated",
        "queue": "house",
        "priority": 3,
        "header": "published",
    }


@against_workers
def test_a_task_with_a_route_goes_to_its_queue() -> None:
    assert get(house.build_report.delay()) == "reports"


def test_the_serializer_carries_what_it_can_carry() -> None:
    assert get(house.price.delay(Decimal("1.50"))) == "Decimal"


def test_a_failure_is_told() -> None:
    result = house.fail.apply_async()

    with pytest.raises(ValueError, match="as it should"):
        get(result)
    assert result.state == "FAILURE"


@against_workers
def test_the_time_limit_of_the_team_ends_a_task() -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        get(house.dawdle.delay())


def test_chains_groups_and_chords() -> None:
    assert get(chain(house.add.s(1, 2), house.add.s(3))()) == 6
    assert get(group(house.add.s(n, n) for n in range(3))()) == [0, 2, 4]
    assert get(chord([house.add.s(n, n) for n in range(3)])(house.total.s())) == 6


def test_the_base_class_takes_part() -> None:
    before = {
        hook: count("hooks", f"{hook} house.add") for hook in ("apply_async", "call", "before_start", "on_success")
    }

    assert get(house.add.delay(1, 1)) == 2

    for hook, number in before.items():
        wait_for_note("hooks", f"{hook} house.add", number)


def test_signals_are_sent() -> None:
    started, ended = count("started", "house.add"), count("ended", "house.add")

    get(house.add.delay(1, 1))

    wait_for_note("started", "house.add", started)
    wait_for_note("ended", "house.add", ended)


@against_workers
def test_the_beat_entry_is_executed() -> None:
    before = int(house.notes.get("breaths") or 0)
    pause = house.threading.Event()
    for _ in range(PATIENCE * 20):
        if int(house.notes.get("breaths") or 0) >= before + 2:
            return
        pause.wait(0.05)
    pytest.fail("beat does not breathe")


@against_workers
def test_a_task_that_a_task_publishes_is_executed() -> None:
    identity = get(house.delegate.delay())

    assert get(house.app.AsyncResult(identity))["value"] == 1


def test_the_configuration_is_what_the_project_says() -> None:
    said = {name: value for name, value in vars(house.Configuration).items() if not name.startswith("_")}

    assert {name: getattr(house.app.conf, name) for name in said} == said
    assert list(house.app.conf.beat_schedule) == ["breathe"]


def test_nothing_else_is_in_the_way_of_a_task() -> None:
    assert isinstance(house.add, house.HouseTask)
    assert house.app.amqp_cls == "celery.app.amqp:AMQP"
