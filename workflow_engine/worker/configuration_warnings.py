"""Warnings about the configuration of a Celery app when a worker starts; nothing of it is changed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger("workflow_engine.worker")

#: Content that executes code when it is read.
UNSAFE_CONTENT: Final = frozenset({"pickle", "application/x-python-serialize", "yaml", "application/x-yaml"})


def find_unsafe_content(app: Celery) -> list[str]:
    """Return the serializers that the app accepts and that execute code when a message is read."""
    configuration: Any = app.conf
    return sorted(UNSAFE_CONTENT.intersection(configuration.accept_content))


def warn_about_configuration(app: Celery) -> None:
    """Name the app's settings that weaken a promise of the engine, with the line that would mend it."""
    warn_about_content(app)
    if app.conf.worker_prefetch_multiplier != 1:
        logger.warning(
            "worker_prefetch_multiplier is %r: stages that a busy worker has reserved wait for it, whatever their "
            "priority. A worker for stages should have worker_prefetch_multiplier = 1 (--prefetch-multiplier=1)",
            app.conf.worker_prefetch_multiplier,
        )


def warn_about_content(app: Celery) -> None:
    """Warn where the app accepts content that executes code when a message is read."""
    unsafe = find_unsafe_content(app)
    if unsafe:
        logger.warning(
            "accept_content has %s: whoever can write to the broker can run code in this worker, by messages for the "
            "app's own tasks (those of the engine are JSON). Without such tasks, set accept_content = ['json']",
            ", ".join(unsafe),
        )
