"""The commands, imported when they are used: ``celery`` loads this module each time it starts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click
from typing_extensions import override

from workflow_engine.cli.errors import CommandError
from workflow_engine.errors import WorkflowEngineError

if TYPE_CHECKING:
    from collections.abc import Mapping


#: Of the groups that have all commands in them; the commands inherit them.
CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


class LazyGroup(click.Group):
    """A group that knows its commands as ``module:attribute``; the library's errors become one line."""

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

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WorkflowEngineError as error:
            raise CommandError(str(error)) from error


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
