"""The failure that is recorded and logged for an exception. Making it must not fail itself."""

from __future__ import annotations

import signal
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from workflow_engine.clock import to_milliseconds
from workflow_engine.errors import ErrorCode, InvalidDataError, PayloadError, StageError, StageTimeout
from workflow_engine.payloads.secrets import Redactor, clean_text, redacting
from workflow_engine.payloads.validation_problems import list_problems
from workflow_engine.store.connection.error_texts import hide_database_texts
from workflow_engine.store.records import Limit, StageFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

#: Longest recorded message of an error, in characters.
LONGEST_MESSAGE: Final = 8 * 1024


def describe(error: BaseException, redactor: Redactor, code: ErrorCode | None = None) -> StageFailure:
    """Return code, type, message and traceback of ``error``, sanitised, redacted and of bounded length.

    Of a database error, the body's own included, class and SQLSTATE are told: its texts quote rows and statements.
    The exception itself goes along for the log of the process: as it is where its texts and those of its causes may be
    shown, else as a stand-in of the same name, traceback and causes.
    """
    shown = _show(error, redactor)
    return StageFailure(
        code=code or _code_of(error),
        type=clean_text(_name_of(error).removeprefix("builtins."), 500),
        message=clean_text(_message_of(shown), LONGEST_MESSAGE),
        traceback=redactor.text(_traceback_of(shown)),
        exception=shown,
    )


def let_process_end(error: BaseException) -> None:
    """Raise the error again if a signal told this process to end, because the user's code was not at fault then."""
    if find_ending_signal(error) is not None:
        raise error


def find_ending_signal(error: BaseException) -> str | None:
    """Return the name of the signal that told this process to end; None if the error means something else.

    Pools of processes make such a signal a ``SystemExit`` in the middle of whatever runs, with the code -(256 - signal).
    """
    code = error.code if type(error) is SystemExit else None
    if not isinstance(code, int) or not -256 < code < 0:  # noqa: PLR2004 - see above
        return None
    number = 256 + code
    return signal.Signals(number).name if number in set(signal.Signals) else None


def with_limit(failure: StageFailure, error: BaseException, name: str, length: timedelta | None) -> StageFailure:
    """Add the limit of the stage to the failure of an attempt or poll that ran longer than it."""
    if length is None or not isinstance(error, StageTimeout):
        return failure
    return replace(failure, limit=Limit(name, "stage", to_milliseconds(length)))


def _code_of(error: BaseException) -> ErrorCode:
    if isinstance(error, StageError):
        return error.code
    if isinstance(error, PayloadError):
        return ErrorCode.INVALID_PAYLOAD
    return ErrorCode.INVALID_DATA if isinstance(error, InvalidDataError) else ErrorCode.STAGE_ERROR


def _name_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


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


def _show(error: BaseException, redactor: Redactor) -> BaseException:
    """Return ``error``, or a stand-in where a text of it or of its causes is not to be shown."""
    texts = {id(part): _text_of(part, error, redactor) for part in _chain(error)}
    if all(texts[id(part)] == _raw_text_of(part) for part in _chain(error)):
        return error
    return _stand_in(error, texts, {})


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that its traceback shows: causes, contexts and the members of groups."""
    waiting, seen = [error], set[int]()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting += [below for below in (part.__cause__, part.__context__, *_members_of(part)) if below is not None]


def _members_of(error: BaseException) -> tuple[BaseException, ...]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _notes_of(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    return [str(note) for note in notes] if isinstance(notes, list | tuple) else []


def _raw_text_of(error: BaseException) -> str:
    return "\n".join((_message_of(error), *_notes_of(error)))


def _text_of(error: BaseException, whole: BaseException, redactor: Redactor) -> str:
    """Return the text of a part of ``whole`` that may be shown."""
    if not isinstance(error, ValidationError):
        return redactor.text(hide_database_texts(_raw_text_of(error), whole))
    with redacting(redactor):
        problems = list_problems(error)
    lines = (f"{error.title} does not fit ({error.error_count()} problems)", *problems, *_notes_of(error))
    return redactor.text("\n".join(lines))


def _stand_in(error: BaseException, texts: Mapping[int, str], made: dict[int, BaseException]) -> BaseException:
    """Return an exception of the same name, traceback and causes, with the texts that may be shown."""
    if id(error) in made:
        return made[id(error)]
    cls = type(error)
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    shown: BaseException = type(cls.__name__, (Exception,), names)(texts[id(error)])
    made[id(error)] = shown
    cause = error.__cause__
    shown.__cause__ = _stand_in(cause, texts, made) if cause else None
    below = error.__context__ or next(iter(_members_of(error)), None)
    shown.__context__ = _stand_in(below, texts, made) if below else None
    shown.__suppress_context__ = error.__suppress_context__
    return shown.with_traceback(error.__traceback__)
