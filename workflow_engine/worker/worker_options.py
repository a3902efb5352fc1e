"""Options of worker processes; read from ``WORKFLOW_ENGINE_*`` like the other settings."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from workflow_engine.settings import Duration, EnvironmentSettings


class SweepInWorkers(StrEnum):
    """Whether a worker sweeps by itself, besides the ticks that beat sends."""

    #: Every interval: no beat is needed.
    ALWAYS = "always"
    #: Every third interval, so that a dead beat is no single point of failure.
    FALLBACK = "fallback"
    #: Only when a tick of beat arrives.
    NEVER = "never"


class WorkerOptions(EnvironmentSettings):
    """Options of worker processes; the environment has the settings of the library under the same prefix."""

    kind: ClassVar[str] = "worker options"

    #: How long a worker that was told to stop lets running stages go on before it gives them back and ends. The default
    #: leaves time before Kubernetes kills the container, 30 seconds after SIGTERM.
    shutdown_grace: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=20)
    #: Whether this worker sweeps by itself.
    sweep_in_workers: SweepInWorkers = SweepInWorkers.FALLBACK
