"""The sweep is in the schedule of a beat, whoever assigns the app's own schedule, and when."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, signals
from celery.beat import Service
from kombu import pools
from kombu.transport.virtual import Channel

from workflow_engine.settings import Settings
from workflow_engine.worker.app import install
from workflow_engine.worker.names import SWEEP
from workflow_engine.worker.wire.message_guards import find_problem

MINE = {"mine": {"task": "shop.mine", "schedule": 3600.0}}
SCHEDULERS = ["celery.beat:Scheduler", "celery.beat:PersistentScheduler"]


class Object:
    beat_schedule = MINE


def assign(app: Any) -> None:
    app.conf.beat_schedule = MINE


def read_and_assign(app: Any) -> None:
    _ = app.conf.timezone
    app.conf.beat_schedule = MINE


def add_when_configured(app: Any) -> None:
    app.on_after_configure.connect(
        lambda **_: app.add_periodic_task(3600.0, app.signature("shop.mine"), name="mine"), weak=False
    )


def add_when_finalized(app: Any) -> None:
    app.on_after_finalize.connect(
        lambda **_: app.add_periodic_task(3600.0, app.signature("shop.mine"), name="mine"), weak=False
    )


WAYS: dict[str, Callable[[Any], object]] = {
    "assigned": assign,
    "assigned after a read": read_and_assign,
    "updated": lambda app: app.conf.update(beat_schedule=MINE),
    "from an object": lambda app: app.config_from_object(Object),
    "as a default": lambda app: app.add_defaults({"beat_schedule": MINE}),
    "when configured": add_when_configured,
    "when finalized": add_when_finalized,
}


def build_engine() -> Any:
    raise AssertionError("no engine is needed here")


def make_app(url: str = "memory://") -> Any:
    return Celery("shop", broker=url, set_as_current=False)


def install_into(app: Any) -> None:
    install(app, build_engine, settings=Settings.load())


def start_beat(app: Any, scheduler: str, directory: Path) -> Any:
    """Do what a beat does before its first tick, and return its scheduler."""
    app.finalize()
    service: Any = Service(app, scheduler_cls=scheduler, schedule_filename=str(directory / "schedule"))
    _ = service.scheduler
    signals.beat_init.send(sender=service)
    return service.scheduler


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("is_installed_first", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_the_sweep_is_scheduled_beside_the_app_s_own_entries(
    tmp_path: Path, scheduler: str, way: str, *, is_installed_first: bool
) -> None:
    app = make_app()
    for step in [install_into, WAYS[way]] if is_installed_first else [WAYS[way], install_into]:
        step(app)

    started = start_beat(app, scheduler, tmp_path)

    assert set(started.schedule) - {"celery.backend_cleanup"} == {"mine", SWEEP}
    assert set(app.conf.beat_schedule) == {"mine"}
    started.close()


def test_a_beat_that_starts_again_goes_on_with_the_app_s_entries_and_the_sweep(tmp_path: Path) -> None:
    app = make_app()
    assign(app)
    install_into(app)
    first = start_beat(app, SCHEDULERS[1], tmp_path)
    first.schedule["mine"] = next(first.schedule["mine"])
    first.close()

    second = start_beat(app, SCHEDULERS[1], tmp_path)

    assert second.schedule["mine"].total_run_count == 1
    assert SWEEP in second.schedule
    second.close()


def test_an_entry_of_the_app_s_own_for_the_sweep_wins(tmp_path: Path) -> None:
    app = make_app()
    install_into(app)
    app.conf.beat_schedule = {SWEEP: {"task": SWEEP, "schedule": 60.0}}

    scheduler = start_beat(app, SCHEDULERS[0], tmp_path)

    assert scheduler.schedule[SWEEP].schedule.run_every.total_seconds() == 60


def test_the_beat_of_an_app_without_the_engine_is_left_alone(tmp_path: Path) -> None:
    install_into(make_app())
    app = make_app()
    assign(app)

    assert set(start_beat(app, SCHEDULERS[0], tmp_path).schedule) - {"celery.backend_cleanup"} == {"mine"}


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@pytest.mark.parametrize(
    "configuration",
    [
        {},
        {"task_always_eager": True},
        {"task_time_limit": 300, "task_soft_time_limit": 200},
        {"task_compression": "gzip"},
        {"task_serializer": "pickle", "accept_content": ["pickle"]},
        {"task_protocol": 1},
        {"task_routes": {"*": {"queue": "elsewhere", "priority": 9, "expires": 1}}},
        {"task_create_missing_queues": False, "task_queues": []},
        {"task_default_priority": 7, "task_inherit_parent_priority": True, "task_default_queue": "orders"},
        {"task_annotations": {"*": {"priority": 8, "expires": 1, "queue": "elsewhere"}}},
        {"broker_transport_options": {"priority_steps": [0, 9]}},
    ],
    ids=lambda configuration: ", ".join(configuration) or "defaults",
)
def test_a_tick_is_the_same_whatever_the_app_says_for_its_own_tasks(
    redis_url: str, client: Any, tmp_path: Path, configuration: dict[str, Any]
) -> None:
    app = make_app(redis_url)
    app.conf.update(configuration)
    install_into(app)
    scheduler = start_beat(app, SCHEDULERS[0], tmp_path)

    scheduler.apply_async(scheduler.schedule[SWEEP], advance=False)

    assert client.keys("workflow*") == [b"workflow.control"]
    raw = json.loads(client.lpop("workflow.control"))
    pools.reset()
    with app.connection_for_read() as connection:
        channel: Channel = connection.channel()
        message = channel.message_to_python(raw)
    assert find_problem(message, SWEEP) is None
    assert raw["headers"]["timelimit"] == [None, None]
