"""Install the engine into a Celery app that a team has, or make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery import Celery, signals
from click import Option

from workflow_engine.worker.beat_schedule import add_sweep
from workflow_engine.worker.engine_holder import EngineHolder
from workflow_engine.worker.installation import Installation, remember_installation
from workflow_engine.worker.process.worker_step import WorkflowStep
from workflow_engine.worker.tasks import register_tasks
from workflow_engine.worker.wire.broker_priorities import PRIORITY_STEPS
from workflow_engine.worker.wire.memory_transport import use_embedded_connections
from workflow_engine.worker.wire.supported_brokers import check_known_broker
from workflow_engine.worker.worker_options import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workflow_engine.engine import Engine
    from workflow_engine.settings import Settings

#: Of an app of our own; an app that was there before keeps its own.
OWN_CONFIGURATION: Final[dict[str, Any]] = {
    # One message per slot and none in reserve: a reserved message escapes priorities.
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        **PRIORITY_STEPS,
        "queue_order_strategy": "priority",
        # Nothing depends on redelivery; a second delivery of a long stage's hint would only be ignored.
        "visibility_timeout": 24 * 3600,
        "socket_connect_timeout": 5,
        "socket_timeout": 15,
        "socket_keepalive": True,
    },
    "accept_content": ["json"],
    "task_serializer": "json",
    "task_ignore_result": True,
    "task_create_missing_queues": True,
    "worker_hijack_root_logger": True,
}


def own_configuration(settings: Settings) -> dict[str, Any]:
    """Return the Celery configuration of an app that is the engine's alone."""
    # kombu warns about a URL without a host, and memory:// has no use for one.
    broker_url = "memory://localhost/" if settings.broker_url == "memory://" else settings.broker_url
    return {**OWN_CONFIGURATION, "broker_url": broker_url, "task_default_queue": settings.queue}


def install(
    app: Celery,
    build_engine: Callable[[], Engine],
    *,
    settings: Settings,
    options: WorkerOptions | None = None,
    stage_queues: Callable[[], Iterable[str]] = tuple,
    consume: bool = True,
) -> Installation:
    """Make workers of the app execute stages and sweep; its own tasks, queues and settings stay as they are.

    Added are two tasks, a step and an option of the worker. Nothing is connected and no configuration is read or
    changed, so this may be called before or after ``config_from_object``.

    Args:
        app: The app; its broker carries the hints.
        build_engine: Makes a new engine at each call; called in each process that executes or sweeps, and closed there.
        settings: Name of the queue, and how often to sweep.
        options: Options of worker processes; by default those of the environment.
        stage_queues: Names of the queues that stages ask for; called when a worker starts.
        consume: Whether a worker that is started without ``-Q`` consumes the engine's queues besides its own.

    Raises:
        ConfigurationError: The app has an engine already, or its broker is known and cannot carry hints.
    """
    check_known_broker(app)
    installation = Installation(
        engines=EngineHolder(build_engine),
        settings=settings,
        options=options or WorkerOptions.load(),
        stage_queues=stage_queues,
        consume=consume,
    )
    remember_installation(app, installation)
    register_tasks(app, installation)
    signals.beat_init.connect(add_sweep, weak=False)
    app.steps["worker"].add(WorkflowStep)
    app.user_options["worker"].add(
        Option(["--with-sweeper"], is_flag=True, help="Sweep every interval: no beat is needed.")
    )
    return installation


def create_app(settings: Settings, name: str = "workflow_engine") -> Celery:
    """Make a Celery app for the engine alone, on the broker of the settings; ``install`` comes next."""
    app = Celery(name, set_as_current=False)
    app.conf.update(own_configuration(settings))
    use_embedded_connections(app)
    return app
