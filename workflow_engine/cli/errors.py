"""Refusals: one line on standard error, an exit code, and no password."""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING, Any, Final

import click
from typing_extensions import override

from workflow_engine.errors import WorkflowEngineError

if TYPE_CHECKING:
    from collections.abc import Callable

#: The command was refused or could not be carried out.
EXIT_ERROR: Final = 2
#: The run that was waited for failed or was cancelled.
EXIT_RUN_FAILED: Final = 1
#: The time to wait was over (what ``timeout`` of coreutils returns).
EXIT_TIMED_OUT: Final = 124
#: Ctrl-C.
EXIT_INTERRUPTED: Final = 130

#: Set this variable to see the traceback of an error that no command expects.
TRACEBACK_VARIABLE: Final = "WORKFLOW_ENGINE_TRACEBACK"

#: The password of a URL up to its last @, in case somebody forgot to escape one; and one given as a parameter.
_PASSWORD = re.compile(r"(?i)(://[^\s:/@]*:)\S+(?=@)|(password=)[^\s&'\"]+")
_LONGEST_LINE: Final = 1000


class CommandError(click.ClickException):
    """A refusal to show on one line."""

    exit_code = EXIT_ERROR

    @override
    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"Error: {as_line(self.message)}", file=file, err=file is None)


def run_command(command: Callable[[], object]) -> int:
    """Call a click command and return its exit code; an error becomes one line."""
    try:
        result = command()
    except click.ClickException as error:
        CommandError(error.format_message()).show()
        return EXIT_ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted", err=True)
        return EXIT_INTERRUPTED
    except WorkflowEngineError as error:
        CommandError(str(error)).show()
        return EXIT_ERROR
    except BrokenPipeError:
        return 0
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        from workflow_engine.store.connection.error_texts import summarize_any  # noqa: PLC0415 - `--help` is quick

        CommandError(f"{summarize_any(error)} ({TRACEBACK_VARIABLE}=1 shows where)").show()
        return EXIT_ERROR
    return result if isinstance(result, int) else 0


def as_line(message: str) -> str:
    """Return a message on one line, passwords in URLs masked."""
    line = " ".join(_PASSWORD.sub(r"\1\2***", message).split())
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
