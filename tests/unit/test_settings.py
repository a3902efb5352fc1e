"""Settings come from arguments, then the environment, then defaults; errors name the setting, not its value."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from workflow_engine.errors import ConfigurationError
from workflow_engine.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("WORKFLOW_ENGINE_"):
            monkeypatch.delenv(name)


def test_the_defaults_fit_one_host_without_services() -> None:
    settings = Settings.load()

    assert settings.database_url == "sqlite:///workflow_engine.db"
    assert settings.broker_url == "memory://"
    assert settings.lease == timedelta(seconds=30)
    assert settings.signing_key is None


def test_the_environment_wins_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_QUEUE", "shop")
    monkeypatch.setenv("WORKFLOW_ENGINE_LEASE", "PT45S")
    monkeypatch.setenv("WORKFLOW_ENGINE_SWEEP_INTERVAL", "2")

    settings = Settings.load()

    assert settings.queue == "shop"
    assert settings.lease == timedelta(seconds=45)
    assert settings.sweep_interval == timedelta(seconds=2)


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_QUEUE", "shop")

    assert Settings.load(queue="other").queue == "other"


def test_none_means_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_QUEUE", "shop")

    assert Settings.load(queue=None).queue == "shop"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lease", timedelta(0)),
        ("sweep_interval", timedelta(seconds=-1)),
        ("queue", "a b"),
        ("queue", ""),
        ("max_payload_bytes", 1),
        ("sweep_batch", 0),
        ("pool_size", "many"),
        ("no_such_setting", 1),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"Invalid settings: {name}: "):
        Settings.load(**{name: value})


def test_an_unknown_setting_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r'did you mean "database_url"\? settings: database_url, broker_url, '):
        Settings.load(databse_url="sqlite://")


def test_an_error_does_not_show_the_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(database_url=["postgresql://me:hunter2@db/x"], pool_size="hunter2")

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_signing_key_is_not_shown() -> None:
    settings = Settings.load(signing_key=SecretStr("hunter2"))

    assert "hunter2" not in repr(settings)


def test_settings_cannot_be_changed() -> None:
    settings = Settings.load()

    with pytest.raises(ValidationError, match="frozen"):
        settings.queue = "other"
