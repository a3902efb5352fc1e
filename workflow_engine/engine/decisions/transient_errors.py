"""Transient errors of a poll: they say nothing about the work that is waited for, so the poll is made again.

The rule reads an error and what it was raised from, outermost first; the first that answers decides:

1. An HTTP status answers: 408, 425, 429 and 5xx are transient, any other is not.
2. The filesystem's own errors (``FileNotFoundError``, ``PermissionError`` …) are not transient.
3. ``OSError`` (``ConnectionError``, ``TimeoutError``, ``socket.gaierror``, ``ssl.SSLError``, ``URLError``, what
   ``requests`` raises for a lost connection), a time limit and a database that is away or too slow are transient.
4. So are classes called like those that clients raise for a lost connection or a time limit without being an
   ``OSError``: the names of ``_NAMES``, whatever package they come from. No client has to be imported for it.

Providers' packages wrap what their HTTP client raised, so the errors that an error was raised from count as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from workflow_engine.engine.process.database_patience import ABSENCES
from workflow_engine.errors import StageTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRANSIENT: Final[tuple[type[BaseException], ...]] = (OSError, StageTimeout, *ABSENCES)
_FILESYSTEM: Final = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ChildProcessError,
    ProcessLookupError,
)
#: httpx, httpcore, requests, urllib3, aiohttp, botocore, redis, http.client, and the packages of model providers.
_NAMES: Final = frozenset(
    {
        "APIConnectionError", "APITimeoutError", "ClientConnectionError", "ConnectionError", "HTTPClientError",
        "IncompleteRead", "NetworkError", "ProtocolError", "TimeoutError", "TimeoutException", "TransportError",
    }
)  # fmt: skip
_SERVER_ERRORS: Final = range(500, 600)
_STATUSES: Final = frozenset({408, 425, 429, *_SERVER_ERRORS})
_ANY_STATUS: Final = range(100, 600)
#: Errors that an error was raised from; a longer chain is probably a ring.
_LONGEST_CHAIN: Final = 20


def is_transient(error: BaseException) -> bool:
    """Tell whether ``error`` only says that a service could not be reached, or could not answer now."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_transient(member) for member in error.exceptions)
    verdicts = (verdict for link in _chain(error) if (verdict := _judge(link)) is not None)
    return next(verdicts, False)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if link is None:
            return
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _judge(error: BaseException) -> bool | None:
    status = _status_of(error)
    if status is not None:
        return status in _STATUSES
    if isinstance(error, _FILESYSTEM):
        return False
    if isinstance(error, _TRANSIENT) or any(kind.__name__ in _NAMES for kind in type(error).__mro__):
        return True
    return None


def _status_of(error: BaseException) -> int | None:
    """Return the HTTP status that the error, or the response that it carries, has under one of its usual names."""
    if not isinstance(error, Exception):
        return None  # the code of a SystemExit is no HTTP status
    for owner in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(owner, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value in _ANY_STATUS:
                return int(value)
    return None
