"""The engine that was installed into an app, as the app's tasks and worker steps find it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from workflow_engine.errors import ConfigurationError
from workflow_engine.worker.names import control_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery import Celery

    from workflow_engine.settings import Settings
    from workflow_engine.worker.engine_holder import EngineHolder
    from workflow_engine.worker.worker_options import WorkerOptions


@dataclass(frozen=True, slots=True)
class Installation:
    """An engine in a Celery app."""

    engines: EngineHolder
    settings: Settings
    options: WorkerOptions
    #: Names of queues that stages ask for themselves; called when a worker starts.
    stage_queues: Callable[[], Iterable[str]]
    #: Whether a worker without ``-Q`` consumes the engine's queues.
    consume: bool
    #: Set when the worker was told to stop: processes that end from now on were not lost.
    stopping: threading.Event = field(default_factory=threading.Event)

    def list_queues(self) -> list[str]:
        """Return every queue of the engine, the one of the sweep first."""
        names = [control_queue(self.settings.queue), self.settings.queue, *self.stage_queues()]
        return list(dict.fromkeys(names))


_installations: WeakKeyDictionary[Celery, Installation] = WeakKeyDictionary()


def remember_installation(app: Celery, installation: Installation) -> None:
    """Remember the engine of the app.

    Raises:
        ConfigurationError: The app has an engine already.
    """
    if app in _installations:
        raise ConfigurationError(f"{app!r} has a workflow engine already; one app serves one runtime")
    _installations[app] = installation


def get_installation(app: Celery) -> Installation:
    """Return the engine of the app."""
    return _installations[app]


def find_installation(app: Celery) -> Installation | None:
    """Return the engine of the app, if it has one."""
    return _installations.get(app)
