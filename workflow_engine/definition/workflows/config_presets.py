"""Config fields that many stages share, to be mixed into config models.

Example:
    ``class DraftConfig(AIConfig, ConcurrencyConfig): tone: str = "plain"``
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class StageConfig(BaseModel):
    """Base of config models: unknown fields are errors, values cannot be changed by a stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AIConfig(StageConfig):
    """How to ask a model."""

    #: Name of the model as the provider knows it.
    model: str = "gpt-4.1-mini"
    #: 0 is deterministic, 2 is wild.
    temperature: float = Field(default=0.7, ge=0, le=2)
    #: Longest answer, in tokens; None leaves it to the provider.
    max_tokens: int | None = Field(default=None, ge=1)


class ConcurrencyConfig(StageConfig):
    """How hard a stage may work on its items."""

    #: Items worked on at the same time.
    concurrency: int = Field(default=5, ge=1)
    #: Pause between items.
    delay: timedelta = Field(default=timedelta(0), ge=timedelta(0))
    #: Further tries for a failed item, inside the stage.
    max_retries: int = Field(default=3, ge=0)


class FeatureFlagsConfig(StageConfig):
    """Switches by name."""

    feature_flags: dict[str, bool] = Field(default_factory=dict)

    def has_feature(self, name: str) -> bool:
        """Tell whether a switch is on; one that is not there is off."""
        return self.feature_flags.get(name, False)


class DebugConfig(StageConfig):
    """How much to log, and a switch for dry runs."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: Do everything but the effects.
    dry_run: bool = False


class StandardConfig(AIConfig, ConcurrencyConfig, FeatureFlagsConfig):
    """AI, concurrency and feature flags."""


class FullConfig(StandardConfig, DebugConfig):
    """All presets."""
