from __future__ import annotations

from datetime import timedelta

import pytest

from workflow_engine.errors import ConfigurationError
from workflow_engine.settings import Settings
from workflow_engine.worker.worker_options import SweepInWorkers, WorkerOptions


def test_the_default_grace_ends_before_kubernetes_kills() -> None:
    assert WorkerOptions.load().shutdown_grace < timedelta(seconds=30)


@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("PT7S", 7), ("0", 0), ("1.5", 1.5)])
def test_the_environment_may_say_seconds_or_iso_8601(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_SHUTDOWN_GRACE", text)

    assert WorkerOptions.load().shutdown_grace == timedelta(seconds=seconds)


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_SWEEP_IN_WORKERS", "always")

    assert WorkerOptions.load(sweep_in_workers="never").sweep_in_workers is SweepInWorkers.NEVER
    assert WorkerOptions.load(sweep_in_workers=None).sweep_in_workers is SweepInWorkers.ALWAYS


def test_an_option_that_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigurationError, match="shutdown_grace"):
        WorkerOptions.load(shutdown_grace=timedelta(seconds=-1))


def test_an_unknown_option_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(
        ConfigurationError, match=r'Invalid worker options: shutdown_grac: .* "shutdown_grace"\? worker options: '
    ):
        WorkerOptions.load(shutdown_grac=timedelta(seconds=1))


def test_options_and_settings_are_read_by_the_same_code() -> None:
    assert WorkerOptions.load.__func__ is Settings.load.__func__  # type: ignore[attr-defined] # of class methods


@pytest.mark.parametrize("text", ["7", "PT7S", "1.5", "P1D", "0.001", "1e3"])
def test_options_and_settings_read_durations_alike(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_SHUTDOWN_GRACE", text)
    monkeypatch.setenv("WORKFLOW_ENGINE_LEASE", text)

    assert WorkerOptions.load().shutdown_grace == Settings.load().lease
