"""How a command reaches the runs: which workflows, which database, which broker."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workflow_engine.definition import Registry
    from workflow_engine.facade.runtime import WorkflowRuntime
    from workflow_engine.settings import Settings
    from workflow_engine.store.connection.database import Database


@dataclass
class Connection:
    """What the options say; the runtime is made when a command first needs it and closed when the command ends."""

    app: str | None = None
    database_url: str | None = None
    broker_url: str | None = None
    #: The Celery app under ``celery -A app workflow``.
    celery_app: Any = None

    def settings(self, **overrides: Any) -> Settings:
        """Return the settings of options and environment."""
        from workflow_engine.settings import Settings  # noqa: PLC0415 - `--help` is quick

        return Settings.load(**{"database_url": self.database_url, "broker_url": self.broker_url, **overrides})

    def database(self) -> Database:
        """Return the database alone, without a look at its schema."""
        from workflow_engine.store.connection.database import Database  # noqa: PLC0415 - `--help` is quick

        database = Database(self.settings().database_url)
        click.get_current_context().call_on_close(database.close)
        return database

    def registry(self) -> Registry:
        """Return the workflows that the options or the environment name, without a look at any database."""
        return self._make_runtime().registry

    def runtime(self, *, create_database: bool = False, **overrides: Any) -> WorkflowRuntime:
        """Return a runtime that knows the workflows named by the options or the environment, if any.

        Args:
            create_database: Whether a SQLite file that does not exist may be made.
            overrides: Settings that the command decides.
        """
        runtime = self._make_runtime(**overrides)
        click.get_current_context().call_on_close(runtime.close)
        if not create_database:
            require_database(runtime.settings.database_url)
        return runtime

    def find_app(self) -> Any:
        """Return the Celery app that the options or the environment name; None where they name something else."""
        found = self._find()
        return found[0] if _is_celery_app(found) else None

    @property
    def workflow_names(self) -> str:
        """Where the workflows are, as the options or the environment say; empty where neither does."""
        from workflow_engine.worker.loading import WORKFLOWS_VARIABLE  # noqa: PLC0415 - `--help` is quick

        return self.app or os.environ.get(WORKFLOWS_VARIABLE, "")

    def _find(self) -> list[Any]:
        from workflow_engine.worker.loading import load_named  # noqa: PLC0415 - `--help` is quick

        names = self.workflow_names
        return load_named(names) if names else [self.celery_app] if self.celery_app else []

    def _make_runtime(self, **overrides: Any) -> WorkflowRuntime:
        from workflow_engine.facade.runtime import WorkflowRuntime  # noqa: PLC0415 - `--help` is quick
        from workflow_engine.worker.loading import collect_workflows  # noqa: PLC0415 - same

        overrides |= {"database_url": self.database_url, "broker_url": self.broker_url}
        found = self._find()
        if _is_celery_app(found):
            return _runtime_of_app(found[0], overrides)
        if len(found) == 1 and isinstance(found[0], WorkflowRuntime):
            return WorkflowRuntime(found[0].registry, settings=found[0].settings, **overrides)
        return WorkflowRuntime(collect_workflows(found) if found else (), **overrides)


def _is_celery_app(found: Sequence[Any]) -> bool:
    return len(found) == 1 and hasattr(found[0], "tasks")


def _runtime_of_app(app: Any, overrides: dict[str, Any]) -> WorkflowRuntime:
    """Return a runtime like the one that was installed into a Celery app; its hints go the app's way."""
    from workflow_engine.facade.runtime import WorkflowRuntime  # noqa: PLC0415 - `--help` is quick
    from workflow_engine.worker.installation import get_installation  # noqa: PLC0415 - same

    try:
        installation = get_installation(app)
    except KeyError:
        raise ConfigurationError(f"{app!r} has no workflow engine; its module calls runtime.install(app)") from None
    engine = installation.engines.get()
    return WorkflowRuntime(engine.registry, settings=installation.settings, dispatcher=engine.dispatcher, **overrides)


def require_database(url: str) -> None:
    """Refuse a SQLite file that does not exist: reading from it would make an empty one.

    Raises:
        ConfigurationError: There is no such file.
    """
    from workflow_engine.store.connection.database import Database  # noqa: PLC0415 - `--help` is quick

    database = Database(url)
    try:
        name = database.url.database
        if not database.is_postgres and name and name != ":memory:" and not Path(name).exists():
            raise ConfigurationError(
                f"There is no database at {name}; name another with --database-url or WORKFLOW_ENGINE_DATABASE_URL, "
                "or make it with `workflow-engine db upgrade`"
            )
    finally:
        database.close()


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--app``, ``--database-url`` and ``--broker-url`` to a command; they fill the `Connection` of its context."""
    options = (
        ("--app", "MODULE:ATTRIBUTE", "Where your workflows are: a runtime, a workflow, or a list of workflows."),
        ("--database-url", "URL", "Database; default WORKFLOW_ENGINE_DATABASE_URL, else sqlite:///workflow_engine.db."),
        ("--broker-url", "URL", "Celery broker; default WORKFLOW_ENGINE_BROKER_URL, else memory://."),
    )
    for name, metavar, text in reversed(options):
        command = click.option(name, metavar=metavar, help=text, expose_value=False, callback=_remember)(command)
    return command


def current_connection(ctx: click.Context) -> Connection:
    """Return the connection of a command's context, made from the Celery app around it where there is one."""
    root = ctx.find_root()
    connection = root.meta.get(__name__)
    if not isinstance(connection, Connection):
        connection = Connection(celery_app=getattr(ctx.obj, "app", None))
        root.meta[__name__] = connection
    return connection


def pass_connection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command its `Connection` as first argument, and the options that fill it."""

    @wraps(command)
    def invoke(*args: Any, **kwargs: Any) -> Any:
        return command(current_connection(click.get_current_context()), *args, **kwargs)

    return connection_options(invoke)


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        setattr(current_connection(ctx), param.name, value)
