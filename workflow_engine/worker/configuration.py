"""What the engine needs of a Celery app's configuration: added where the app says nothing, merged where both speak."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from workflow_engine.errors import ConfigurationError
from workflow_engine.worker.beat import beat_entries
from workflow_engine.worker.priorities import PRIORITY_STEPS, STEPS

if TYPE_CHECKING:
    from celery import Celery

    from workflow_engine.settings import Settings

logger = logging.getLogger("workflow_engine.worker")

#: Below what the app sets, above Celery's own defaults.
DEFAULTS: Final[dict[str, Any]] = {
    # One message per slot and none in reserve: a reserved message escapes priorities.
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
}

#: Content that executes code when it is read.
UNSAFE_CONTENT: Final = frozenset({"pickle", "application/x-python-serialize", "yaml", "application/x-yaml"})


def configure(app: Celery, settings: Settings) -> None:
    """Add the engine's part to the app's configuration, when it is read if that has not happened yet."""
    celery: Any = app
    celery.add_defaults(lambda: DEFAULTS)

    def merge(**_: object) -> None:
        merge_transport_options(app)
        app.conf.beat_schedule = {**beat_entries(settings), **app.conf.beat_schedule}

    if celery.configured:
        merge()
    else:
        celery.on_after_configure.connect(merge, weak=False)


def merge_transport_options(app: Celery) -> None:
    """Give each priority a list of its own, unless the app has steps already."""
    app.conf.broker_transport_options = {**PRIORITY_STEPS, **app.conf.broker_transport_options}


def check_configuration(app: Celery) -> None:
    """Refuse what is unsafe, warn about what breaks a promise; called when a worker starts.

    Raises:
        ConfigurationError: The app accepts messages that execute code when they are read.
    """
    unsafe = UNSAFE_CONTENT.intersection(app.conf.accept_content)
    if unsafe:
        raise ConfigurationError(
            f"accept_content has {', '.join(sorted(unsafe))}: whoever can write to the broker could run code in this "
            "worker. Set accept_content = ['json']"
        )
    steps = app.conf.broker_transport_options["priority_steps"]
    if list(steps) != list(range(STEPS)):
        logger.warning("priority_steps is %r: priorities that share a step are not kept apart; unset it", steps)
    if app.conf.worker_prefetch_multiplier != 1:
        logger.warning(
            "worker_prefetch_multiplier is %r: reserved messages escape priorities; 1 keeps them",
            app.conf.worker_prefetch_multiplier,
        )
