"""What installing leaves alone, and what a worker says about the configuration that it finds."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery, Task, signals

from workflow_engine.errors import ConfigurationError
from workflow_engine.settings import Settings
from workflow_engine.worker.app import create_app, install
from workflow_engine.worker.beat_schedule import beat_entries
from workflow_engine.worker.configuration_warnings import warn_about_configuration
from workflow_engine.worker.names import EXECUTE_STAGE, SWEEP

#: What a team may have set: everything that install() could be tempted to change, and a little more.
HOUSE: dict[str, Any] = {
    "broker_url": "redis://127.0.0.1:1/0",
    "broker_transport_options": {"visibility_timeout": 60, "priority_steps": [0, 5]},
    "broker_connection_max_retries": 3,
    "worker_prefetch_multiplier": 4,
    "accept_content": ["json", "pickle"],
    "beat_schedule": {"mine": {"task": "shop.mine", "schedule": 1.0}},
    "task_routes": {"*": {"queue": "routed"}},
    "task_queues": None,
    "task_default_queue": "orders",
}


class HouseTask(Task):
    """A base class of the team's."""

    abstract = True


def build_engine() -> Any:
    raise AssertionError("installing builds no engine")


def make_app(**configuration: Any) -> Any:
    app = Celery("shop", broker="redis://127.0.0.1:1/0", task_cls=HouseTask, set_as_current=False)
    app.conf.update(configuration)

    @app.task(name="shop.mine", shared=False)
    def mine() -> None:
        """Do nothing."""

    return app


def installed(**configuration: Any) -> Any:
    app = make_app(**configuration)
    install(app, build_engine, settings=Settings.load())
    return app


def lineage(cls: type[Any]) -> list[str]:
    """Return the names of the class and its bases: each app has a class of its own by the same name."""
    return [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__]


def look_at(app: Any) -> dict[str, Any]:
    """Return everything of the app that others can see, without what is the engine's by name."""
    app.finalize()
    return {
        "configuration": app.conf.table(with_defaults=True, censored=False),
        "changes": dict(app.conf.changes),
        "classes": (
            app.amqp_cls,
            type(app.amqp),
            app.amqp.Connection,
            app.task_cls,
            lineage(app.Task),
            app.control_cls,
        ),
        "tasks": {name: lineage(type(task)) for name, task in app.tasks.items() if name not in (EXECUTE_STAGE, SWEEP)},
        "queues": {name: queue.as_dict() for name, queue in app.amqp.queues.items()},
        "options": {
            command: names - {"--with-sweeper"}
            for command, options in app.user_options.items()
            if (names := {name for option in options for name in option.opts}) != {"--with-sweeper"}
        },
        "steps": {step.__name__ for steps in app.steps.values() for step in steps} - {"WorkflowStep"},
        "transport": type(app.connection_for_write().transport),
        "signals": {
            name: [key for key, receiver in signal.receivers if "workflow_engine" not in repr(receiver)]
            for name, signal in vars(signals).items()
            if isinstance(signal, type(signals.beat_init))
        },
    }


@pytest.mark.parametrize("is_read_first", [True, False])
@pytest.mark.parametrize("house", [{}, HOUSE], ids=["defaults", "settings of its own"])
def test_installing_changes_nothing_of_the_app(house: dict[str, Any], *, is_read_first: bool) -> None:
    untouched, guest = make_app(**house), make_app(**house)
    if is_read_first:
        look_at(guest)

    install(guest, build_engine, settings=Settings.load())

    before, after = look_at(untouched), look_at(guest)
    assert {name for name in before if before[name] != after[name]} == set()


def test_installing_reads_no_configuration_so_that_it_may_come_first() -> None:
    app: Any = Celery("shop", set_as_current=False)

    install(app, build_engine, settings=Settings.load())

    assert not app.configured
    app.config_from_object({"broker_url": "redis://127.0.0.1:1/0", "task_default_queue": "orders"})
    assert app.conf.task_default_queue == "orders"


def test_an_app_of_our_own_keeps_every_priority_apart_and_reserves_nothing() -> None:
    app = create_app(Settings.load())

    assert app.conf.broker_transport_options["priority_steps"] == list(range(10))
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_connection_max_retries is None


def test_settings_that_weaken_a_promise_are_told_with_the_line_that_mends_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warn_about_configuration(installed(worker_prefetch_multiplier=4))

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "worker_prefetch_multiplier = 1" in caplog.text


@pytest.mark.parametrize("content", ["pickle", "yaml", "application/x-python-serialize"])
def test_content_that_executes_code_is_told(content: str, caplog: pytest.LogCaptureFixture) -> None:
    warn_about_configuration(installed(accept_content=["json", content], worker_prefetch_multiplier=1))

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"accept_content has {content}" in caplog.text


def test_steps_and_content_of_the_app_s_own_are_no_cause_for_a_word(caplog: pytest.LogCaptureFixture) -> None:
    warn_about_configuration(
        installed(broker_transport_options={"priority_steps": [0, 3, 6, 9]}, worker_prefetch_multiplier=1)
    )

    assert caplog.records == []


def test_ticks_come_every_interval_and_never_expire() -> None:
    entries = beat_entries(Settings.load(sweep_interval=timedelta(seconds=7)))

    assert entries == {SWEEP: {"task": SWEEP, "schedule": timedelta(seconds=7)}}


def test_tasks_are_registered_on_the_app_alone() -> None:
    other = Celery("other", set_as_current=False)
    installed().finalize()

    other.finalize()

    assert EXECUTE_STAGE not in other.tasks


def test_an_app_serves_one_engine() -> None:
    app = installed()

    with pytest.raises(ConfigurationError, match="workflow engine already"):
        install(app, build_engine, settings=Settings.load())
