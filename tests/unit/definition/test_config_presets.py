"""Presets mix into config models."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from workflow_engine.definition import (
    AIConfig,
    ConcurrencyConfig,
    DebugConfig,
    FeatureFlagsConfig,
    FullConfig,
    Schema,
    StageConfig,
    StandardConfig,
)

PRESETS = [AIConfig, ConcurrencyConfig, FeatureFlagsConfig, DebugConfig, StandardConfig, FullConfig]


class DraftConfig(AIConfig, ConcurrencyConfig):
    tone: str = "plain"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_every_preset_has_defaults_that_can_be_stored(preset: type[StageConfig]) -> None:
    stored = Schema.of(preset).store({}, what="config")
    accepted = Schema.of(preset).decode(stored, what="config")

    assert accepted == preset()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_unknown_fields_are_errors(preset: type[StageConfig]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        preset.model_validate({"modle": "x"})


def test_presets_are_mixed_with_fields_of_ones_own() -> None:
    config = DraftConfig(model="big", concurrency=2, tone="warm")

    assert (config.model, config.concurrency, config.tone, config.temperature) == ("big", 2, "warm", 0.7)


def test_the_full_config_holds_every_field() -> None:
    fields = {name for preset in PRESETS for name in preset.model_fields}

    assert set(FullConfig.model_fields) == fields


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 2.1},
        {"temperature": -0.1},
        {"max_tokens": 0},
        {"concurrency": 0},
        {"delay": timedelta(seconds=-1)},
        {"max_retries": -1},
        {"log_level": "loud"},
        {"feature_flags": {"a": "perhaps"}},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(values: Any) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        FullConfig(**values)


def test_a_flag_that_is_not_there_is_off() -> None:
    config = FeatureFlagsConfig(feature_flags={"a": True, "b": False})

    assert [config.has_feature(name) for name in ("a", "b", "c")] == [True, False, False]


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        AIConfig().model = "big"  # type: ignore[misc] # the mistake
