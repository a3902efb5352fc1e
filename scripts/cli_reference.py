"""Print the reference of the command line as Markdown, from the commands themselves.

``python scripts/cli_reference.py`` prints it, with ``--write`` it becomes docs/cli.md.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workflow_engine.cli.main import NAME, cli

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).parents[1] / "docs" / "cli.md"

HEAD = rf"""# The command line

<!-- written by scripts/cli_reference.py -->

`{NAME}` and, for the workflows that are installed in a Celery app, `celery -A app workflow` (the same commands without `demo`,
`dev`, `worker` and `beat`). Every command takes `--app`, `--database-url` and `--broker-url`; WORKFLOW_ENGINE_WORKFLOWS,
WORKFLOW_ENGINE_DATABASE_URL and WORKFLOW_ENGINE_BROKER_URL stand for them. RUN is the id of a run.

Completion in a shell comes from the command itself. For the commands, their options and the values of those that have a
fixed choice, put one line into the file that your shell reads when it starts:

| shell | file | line |
|---|---|---|
| bash (4.4 or later) | `~/.bashrc` | `eval "$(_WORKFLOW_ENGINE_COMPLETE=bash_source {NAME})"` |
| zsh | `~/.zshrc`, after `compinit` | `eval "$(_WORKFLOW_ENGINE_COMPLETE=zsh_source {NAME})"` |
| fish | `~/.config/fish/completions/{NAME}.fish` | `_WORKFLOW_ENGINE_COMPLETE=fish_source {NAME} \| source` |

Exit codes: 0 done, 1 the run that was waited for failed or was cancelled, 2 refused (with one line that says why), 124 not ended
in time, 130 interrupted.
"""
#: Explained once, at the top.
COMMON = {"app", "database_url", "broker_url", "help"}


def reference() -> str:
    """Return the whole page."""
    context = click.Context(cli, info_name=NAME)
    return "\n".join([HEAD, *_describe(cli, context)]).rstrip() + "\n"


def _describe(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _describe(command, inner)
        else:
            yield from _describe_command(command, inner)


def _describe_command(command: click.Command, context: click.Context) -> Iterator[str]:
    arguments = [part for part in command.collect_usage_pieces(context) if part != "[OPTIONS]"]
    yield f"## `{' '.join([context.command_path, *arguments])}`\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    options = [option for option in command.params if isinstance(option, click.Option) and option.name not in COMMON]
    yield from (_describe_option(option, context) for option in options)
    if options:
        yield ""


def _describe_option(option: click.Option, context: click.Context) -> str:
    names, _ = option.get_help_record(context) or ("", "")
    required = " (required)" if option.required else ""
    return f"- `{names}`{required}: {option.help}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        REFERENCE.write_text(reference(), "utf-8")
    else:
        sys.stdout.write(reference())
