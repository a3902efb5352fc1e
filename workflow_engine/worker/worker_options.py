"""What concerns worker processes only; read from ``WORKFLOW_ENGINE_*`` like the other settings."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from workflow_engine.errors import ConfigurationError


class SweepInWorkers(StrEnum):
    """Whether a worker sweeps by itself, besides the ticks that beat sends."""

    #: Every interval: no beat is needed.
    ALWAYS = "always"
    #: Every third interval, so that a dead beat is no single point of failure.
    FALLBACK = "fallback"
    #: Only when a tick of beat arrives.
    NEVER = "never"


def _read_seconds(value: object) -> object:
    """Read ``30`` from the environment as seconds; everything else is pydantic's to read."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Duration = Annotated[timedelta, BeforeValidator(_read_seconds)]


class WorkerOptions(BaseSettings):
    """Options of worker processes; arguments win over environment variables, those over the defaults.

    Durations in the environment are ISO 8601 (``PT30S``) or seconds (``30``).
    """

    model_config = SettingsConfigDict(env_prefix="WORKFLOW_ENGINE_", extra="ignore", frozen=True)

    #: How long a worker that was told to stop lets running stages go on before it gives them back and ends. The default
    #: leaves time before Kubernetes kills the container, 30 seconds after SIGTERM.
    shutdown_grace: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=20)
    #: Whether this worker sweeps by itself.
    sweep_in_workers: SweepInWorkers = SweepInWorkers.FALLBACK

    @classmethod
    def load(cls, **values: Any) -> WorkerOptions:
        """Build options from arguments (None means not given), the environment and defaults.

        Raises:
            ConfigurationError: A value does not fit; the message names the option.
        """
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
            raise ConfigurationError("Invalid worker options: " + "; ".join(problems)) from None
