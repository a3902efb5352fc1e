"""Find the workflows that the environment names, and install them into a Celery app."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from celery import Celery

from workflow_engine.definition import Workflow
from workflow_engine.definition.workflows.registry import Registry, as_registry
from workflow_engine.engine import Engine
from workflow_engine.errors import ConfigurationError
from workflow_engine.names import among
from workflow_engine.settings import Settings
from workflow_engine.store.schema.revisions import ensure
from workflow_engine.worker.app import create_app, install
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

#: Comma separated ``package.module:attribute``; an attribute is a runtime, a workflow, several of them, a registry,
#: or a Celery app that the engine was installed into.
WORKFLOWS_VARIABLE: Final = "WORKFLOW_ENGINE_WORKFLOWS"


@runtime_checkable
class Installable(Protocol):
    """A runtime: it knows its workflows and settings, and installs itself."""

    def install(self, app: Celery, /) -> Any:
        """Install into the app."""


def load_named(names: str) -> list[Any]:
    """Import what comma separated ``package.module:attribute`` names say; the current directory is looked in as well.

    Raises:
        ConfigurationError: A name is malformed, or names nothing.
    """
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return [_load(name.strip()) for name in names.split(",") if name.strip()]


def make_app(settings: Settings) -> Celery:
    """Return the app that ``WORKFLOW_ENGINE_WORKFLOWS`` names, or one of our own with the workflows that it names.

    Raises:
        ConfigurationError: The variable is not set, or names nothing usable.
    """
    found = _load_from_environment()
    if len(found) == 1 and isinstance(found[0], Celery):
        return found[0]
    app = create_app(settings)
    _install(app, settings, found)
    return app


def install_from_environment(app: Celery) -> None:
    """Install what ``WORKFLOW_ENGINE_WORKFLOWS`` names into the app.

    Raises:
        ConfigurationError: The variable is not set, or names nothing usable.
    """
    _install(app, Settings.load(), _load_from_environment())


def _load_from_environment() -> list[Any]:
    found = load_named(os.environ.get(WORKFLOWS_VARIABLE, ""))
    if not found:
        raise ConfigurationError(
            f"Set {WORKFLOWS_VARIABLE} to your workflows or runtime, for instance {WORKFLOWS_VARIABLE}=shop.pipelines:runtime"
        )
    return found


def _install(app: Celery, settings: Settings, found: list[Any]) -> None:
    if len(found) == 1 and isinstance(found[0], Installable):
        found[0].install(app)
    else:
        install_workflows(app, settings, collect_workflows(found))


def collect_workflows(found: Iterable[Any]) -> Registry:
    """Return one registry of workflows, lists of them, and mappings.

    Raises:
        DefinitionError: Something is neither, or two definitions share an id.
    """
    found = list(found)
    if len(found) == 1:
        return as_registry(found[0])
    registries = [as_registry(item) for item in found]
    return as_registry([registry.get(workflow_id) for registry in registries for workflow_id in registry.ids()])


def install_workflows(app: Celery, settings: Settings, registry: Registry) -> None:
    """Install an engine of its own for the workflows of the registry."""
    dispatcher = CeleryDispatcher(app, settings)

    def build_engine() -> Engine:
        engine = Engine.build(settings=settings, registry=registry, dispatcher=dispatcher)
        ensure(engine.database, auto_upgrade_sqlite=settings.auto_upgrade_sqlite)
        return engine

    install(app, build_engine, settings=settings, stage_queues=registry.stage_queues)


def _load(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"{name!r} is not package.module:attribute")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists; what it imports does not
        raise ConfigurationError(f"There is no module {error.name!r} (asked for by {name!r})") from error
    if not hasattr(module, attribute):
        there = among(attribute, _usable_names(module), kind="it has")
        raise ConfigurationError(f"Module {module_name!r} has no {attribute!r}{there}")
    return getattr(module, attribute)


def _usable_names(module: ModuleType) -> list[str]:
    """Return the names of a module's workflows, collections of them, runtimes and Celery apps."""
    return [name for name, value in vars(module).items() if not isinstance(value, type) and _is_usable(value)]


def _is_usable(value: object) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    return any(isinstance(member, Workflow | Installable | Celery) for member in members)
