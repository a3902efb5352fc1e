"""Which errors of a poll are transient: told by what they are, and by what they were raised from."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from workflow_engine.engine.decisions.transient_errors import is_transient
from workflow_engine.errors import DatabaseUnavailableError, StageTimeout


def made(name: str, *bases: type[BaseException], **attributes: Any) -> BaseException:
    """Return an error of a package that is not installed here."""
    return type(name, bases or (Exception,), attributes)("no answer")


def raised_from(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def raised_while(error: BaseException, context: BaseException) -> BaseException:
    error.__context__ = context
    return error


def response(status: int) -> object:
    return type("Response", (), {"status_code": status, "__bool__": lambda _: status < 400})()


TRANSIENT: dict[str, BaseException] = {
    "no name": socket.gaierror(-2, "Name or service not known"),
    "no route": OSError(113, "No route to host"),
    "reset": ConnectionResetError(),
    "time limit of a socket": TimeoutError(),
    "time limit of the poll": StageTimeout("took longer"),
    "TLS": ssl.SSLError("bad record"),
    "urllib": URLError("refused"),
    "cut off in the middle": http.client.IncompleteRead(b""),
    "our own database": DatabaseUnavailableError("away"),
    "requests": made("ConnectionError", OSError),
    "httpx": made("ConnectError", type("TransportError", (Exception,), {})),
    "aiohttp": made("ServerDisconnectedError", type("ClientConnectionError", (Exception,), {})),
    "redis": made("ConnectionError"),
    "a provider's package": made("APIConnectionError"),
    "raised from": raised_from(ValueError("no result"), ConnectionError()),
    "raised while": raised_while(ValueError("no result"), ConnectionError()),
    "too many requests": made("RateLimitError", status_code=429),
    "a server's error of requests": made("HTTPError", OSError, response=response(503)),
    "a server's error of urllib": HTTPError("http://x", 502, "bad gateway", {}, None),  # type: ignore[arg-type]
    "several at once": ExceptionGroup("tasks", [TimeoutError(), ConnectionError()]),
}
NOT_TRANSIENT: dict[str, BaseException] = {
    "no file": FileNotFoundError("x"),
    "no right": PermissionError("x"),
    "a directory": IsADirectoryError("x"),
    "no directory": NotADirectoryError("x"),
    "a file": FileExistsError("x"),
    "a mistake": KeyError("x"),
    "no batch of requests": made("HTTPError", OSError, response=response(404)),
    "no batch of urllib": HTTPError("http://x", 404, "not found", {}, None),  # type: ignore[arg-type]
    "no batch of a provider": made("NotFoundError", status_code=404),
    "an answer after an outage": raised_while(made("NotFoundError", status_code=404), ConnectionError()),
    "refused on purpose, from an answer": raised_from(LookupError("gone"), made("HTTPError", status_code=410)),
    "not JSON": json.JSONDecodeError("x", "", 0),
    "an exit": SystemExit(503),
    "one of several": ExceptionGroup("tasks", [TimeoutError(), KeyError("x")]),
}


@pytest.mark.parametrize("error", TRANSIENT.values(), ids=TRANSIENT)
def test_errors_of_whoever_could_not_be_reached_are_transient(error: BaseException) -> None:
    assert is_transient(error)


@pytest.mark.parametrize("error", NOT_TRANSIENT.values(), ids=NOT_TRANSIENT)
def test_answers_and_mistakes_are_not_transient(error: BaseException) -> None:
    assert not is_transient(error)


def test_what_was_raised_from_none_stands_for_itself() -> None:
    def lost() -> None:
        try:
            socket.create_connection(("127.0.0.1", 0))
        except OSError:
            raise LookupError("the batch is gone") from None

    assert not is_transient(_caught(lost))


def test_a_ring_of_causes_has_an_end() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first

    assert not is_transient(first)


def _caught(call: Callable[[], None]) -> BaseException:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it raises
        return error
    raise AssertionError("nothing was raised")
