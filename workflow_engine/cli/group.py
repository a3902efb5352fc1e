"""Groups whose commands are imported when they are used: ``celery`` loads this module each time it starts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from workflow_engine.cli.errors import CommandGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click


class LazyGroup(CommandGroup):
    """A group that knows its commands as ``module:attribute``."""

    def __init__(self, *args: Any, lazy: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


COMMANDS: Mapping[str, str] = {
    "demo": "workflow_engine.cli.commands.demo:demo",
    "dev": "workflow_engine.cli.commands.dev:dev",
    "worker": "workflow_engine.cli.commands.processes:worker",
    "beat": "workflow_engine.cli.commands.processes:beat",
    "db": "workflow_engine.cli.commands.db:db",
    "runs": "workflow_engine.cli.commands.runs:runs",
    "workflows": "workflow_engine.cli.commands.workflows:workflows",
    "doctor": "workflow_engine.cli.commands.doctor:doctor",
    "sweep": "workflow_engine.cli.commands.maintenance:sweep",
    "prune": "workflow_engine.cli.commands.maintenance:prune",
}
