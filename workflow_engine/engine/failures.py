"""Turning an exception into what is recorded about it; recording a failure must not fail."""

from __future__ import annotations

import signal
import traceback

from workflow_engine.errors import ErrorCode, InvalidDataError, PayloadError, StageError
from workflow_engine.redact import Redactor, clean_text
from workflow_engine.store.database_errors import hide_database_texts
from workflow_engine.store.records import StageFailure

_MAX_MESSAGE = 8 * 1024


def describe(error: BaseException, redactor: Redactor, code: ErrorCode | None = None) -> StageFailure:
    """Return code, type, message and traceback of ``error``, sanitised, redacted and of bounded length.

    Of a database error, the body's own included, class and SQLSTATE are told: its texts quote rows and statements.
    """
    return StageFailure(
        code=code or _code_of(error),
        type=clean_text(f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."), 500),
        message=clean_text(redactor.text(hide_database_texts(_message_of(error), error)), _MAX_MESSAGE),
        traceback=redactor.text(hide_database_texts(_traceback_of(error), error)),
    )


def let_process_end(error: BaseException) -> None:
    """Raise the error again if a signal told this process to end: what is executed here was not at fault."""
    if find_ending_signal(error) is not None:
        raise error


def find_ending_signal(error: BaseException) -> str | None:
    """Return the name of the signal that told this process to end, if that is what the error means.

    Pools of processes make such a signal a ``SystemExit`` in the middle of whatever runs, with the code -(256 - signal).
    """
    code = error.code if type(error) is SystemExit else None
    if not isinstance(code, int) or not -256 < code < 0:  # noqa: PLR2004 - see above
        return None
    number = 256 + code
    return signal.Signals(number).name if number in set(signal.Signals) else None


def _code_of(error: BaseException) -> ErrorCode:
    if isinstance(error, StageError):
        return error.code
    if isinstance(error, PayloadError):
        return ErrorCode.INVALID_PAYLOAD
    return ErrorCode.INVALID_DATA if isinstance(error, InvalidDataError) else ErrorCode.STAGE_ERROR


def _message_of(error: BaseException) -> str:
    if type(error) is SystemExit:
        return f"the stage called sys.exit({error.code!r})"
    try:
        return str(error) or type(error).__name__
    except BaseException:  # noqa: BLE001 - an exception whose __str__ raises
        return f"{type(error).__name__} (its message cannot be shown)"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - an exception whose __str__ raises
        return "".join(traceback.format_tb(error.__traceback__))
