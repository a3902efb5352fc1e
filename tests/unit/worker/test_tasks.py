from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from workflow_engine import engine as commands
from workflow_engine.errors import DatabaseUnavailableError
from workflow_engine.settings import Settings
from workflow_engine.worker.engine_holder import EngineHolder
from workflow_engine.worker.installation import Installation
from workflow_engine.worker.process.stage_requests import give_back, worker_id_prefix
from workflow_engine.worker.process.sweeper import Sweeper, build_sweeper
from workflow_engine.worker.tasks import DATABASE_PAUSE, perform_stage, perform_sweep
from workflow_engine.worker.worker_options import SweepInWorkers, WorkerOptions

ID = "01890000-0000-7000-8000-000000000000"


class FakeEngine:
    def __init__(self) -> None:
        self.slept: list[timedelta] = []
        self.clock = SimpleNamespace(sleep=self.slept.append)


def make_installation(build: Any, **options: Any) -> Installation:
    return Installation(EngineHolder(build), Settings.load(), WorkerOptions.load(**options), list, consume=True)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def installation(engine: FakeEngine) -> Installation:
    return make_installation(lambda: engine)


def raiser(error: BaseException) -> Any:
    def fail(*_: object) -> Any:
        raise error

    return fail


def test_the_stage_task_says_what_became_of_the_hint(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "execute_stage", lambda _, *arguments: commands.Performed(f"{arguments}"))

    assert perform_stage(installation, ID, 7) == f"('{ID}', 7)"


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(1), KeyboardInterrupt(), ValueError("bug")])
def test_nothing_that_the_engine_raises_reaches_celery(
    error: BaseException, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "execute_stage", raiser(error))
    monkeypatch.setattr(commands, "sweep", raiser(error))

    assert perform_stage(installation, ID, 1) == "error"
    assert perform_sweep(installation) == "error"


def test_an_engine_that_cannot_be_built_does_not_reach_celery_either() -> None:
    installation = make_installation(raiser(MemoryError()))

    assert perform_stage(installation, ID, 1) == "error"
    assert perform_sweep(installation) == "error"


def test_a_database_that_is_away_is_waited_for_a_moment_so_that_the_queue_is_not_emptied_in_vain(
    installation: Installation, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "execute_stage", raiser(DatabaseUnavailableError("gone")))

    assert perform_stage(installation, ID, 1) == "error"
    assert engine.slept == [DATABASE_PAUSE]


def test_a_process_that_was_lost_is_reaped_and_one_that_was_told_to_stop_is_released(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(commands, "reap_worker", lambda _, prefix: calls.append(("reap", prefix)) or 0)
    monkeypatch.setattr(commands, "release_worker", lambda _, prefix: calls.append(("release", prefix)) or 0)

    give_back(installation, [17, 18])
    installation.stopping.set()
    give_back(installation, [17])

    assert calls == [
        ("reap", worker_id_prefix(17)),
        ("reap", worker_id_prefix(18)),
        ("release", worker_id_prefix(17)),
    ]


def test_giving_back_goes_on_after_a_failure_and_never_raises(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def fail(_: object, prefix: str) -> int:
        calls.append(prefix)
        raise DatabaseUnavailableError("gone")

    monkeypatch.setattr(commands, "reap_worker", fail)

    give_back(installation, [17, 18])

    assert calls == [worker_id_prefix(17), worker_id_prefix(18)]


def test_a_process_that_cannot_fork_goes_on_without_the_sweep_and_without_giving_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installation.engines.expect_forks()
    monkeypatch.setattr(os, "fork", raiser(BlockingIOError("no more processes")))
    sweeper = build_sweeper(installation)
    assert sweeper is not None

    sweeper._tick()
    give_back(installation, [17])

    assert [record.getMessage().count("no more processes") for record in caplog.records] == [1, 1]


def test_the_prefix_of_one_process_is_not_that_of_another_whose_number_begins_alike() -> None:
    assert not worker_id_prefix(170).startswith(worker_id_prefix(17))


@pytest.mark.parametrize(("choice", "seconds"), [(SweepInWorkers.ALWAYS, 5), (SweepInWorkers.FALLBACK, 15)])
def test_a_worker_sweeps_every_interval_or_falls_back_every_third(choice: SweepInWorkers, seconds: int) -> None:
    sweeper = build_sweeper(make_installation(FakeEngine, sweep_in_workers=choice))

    assert sweeper is not None
    assert sweeper._interval == timedelta(seconds=seconds)


def test_a_worker_may_leave_sweeping_to_beat() -> None:
    assert build_sweeper(make_installation(FakeEngine, sweep_in_workers=SweepInWorkers.NEVER)) is None


def test_a_sweeper_ticks_until_it_is_stopped() -> None:
    ticks, twice = [], threading.Event()

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 2:
            twice.set()

    sweeper = Sweeper(tick, timedelta(milliseconds=1))
    sweeper.start()
    assert twice.wait(10)

    sweeper.stop()

    assert "workflow-sweeper" not in {thread.name for thread in threading.enumerate()}


def test_the_flag_of_a_worker_makes_it_sweep_every_interval_whatever_the_options_say() -> None:
    installation = make_installation(FakeEngine, sweep_in_workers=SweepInWorkers.NEVER)

    sweeper = build_sweeper(installation, with_sweeper=True)

    assert sweeper is not None
    assert sweeper._interval == installation.settings.sweep_interval


def test_a_signal_that_ends_a_process_of_the_pool_reaches_the_pool(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told_to_end = SystemExit(-(256 - signal.SIGTERM))
    monkeypatch.setattr(commands, "execute_stage", raiser(told_to_end))
    monkeypatch.setattr(commands, "sweep", raiser(told_to_end))

    for perform in (lambda: perform_stage(installation, ID, 1), lambda: perform_sweep(installation)):
        with pytest.raises(SystemExit):
            perform()

    assert caplog.text.count("was told to end by SIGTERM") == 2
