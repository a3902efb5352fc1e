"""What is said of a database error, however deep in a chain it is."""

from __future__ import annotations

import sqlite3
import traceback
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from workflow_engine.errors import StoreError
from workflow_engine.store.connection.error_texts import hide_database_texts, loggable, summarize, summarize_any

TEXT = "null value\nDETAIL:  Failing row contains (s3cret).\n\n    at \\1 of s3cret"


class CheckViolation(Exception):  # noqa: N818 - the name is psycopg2's
    pgcode = "23514"


def wrapped(error: Exception) -> DBAPIError:
    made: Any = DBAPIError.instance("INSERT s3cret", {"a": "s3cret"}, error, Exception)
    return made


def chained(kind: type[Exception], error: Exception, message: str = "") -> Exception:
    outer = kind(message or f"failed: {error}")
    outer.__cause__ = error
    return outer


def formatted(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


CHAINS = {
    "the driver's": CheckViolation(TEXT),
    "SQLAlchemy's": wrapped(CheckViolation(TEXT)),
    "a cause": chained(ValueError, CheckViolation(TEXT)),
    "a cause of a cause": chained(RuntimeError, chained(ValueError, wrapped(CheckViolation(TEXT)))),
    "quoted by another": chained(ValueError, CheckViolation(TEXT), f"failed: {CheckViolation(TEXT)!r}"),
    "a member of groups": ExceptionGroup("a", [ExceptionGroup("b", [ValueError(1), CheckViolation(TEXT)])]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_no_text_of_the_database_is_left(name: str) -> None:
    error = CHAINS[name]

    texts = [hide_database_texts(formatted(error), error), summarize_any(error), formatted(loggable(error))]

    assert all("s3cret" not in text for text in texts)
    assert all("CheckViolation" in text for text in [texts[0], texts[2]] if "group" not in name)
    assert "SQLSTATE 23514" in texts[0]


def test_what_carries_no_data_is_kept() -> None:
    sqlite = sqlite3.IntegrityError("UNIQUE constraint failed: runs.id")

    assert summarize(sqlite) == "IntegrityError: UNIQUE constraint failed: runs.id"
    assert summarize(CheckViolation(TEXT)) == "CheckViolation (SQLSTATE 23514)"
    assert summarize_any(ValueError("x")) == "ValueError: x"


def test_an_error_that_is_none_of_a_database_is_logged_as_it_is() -> None:
    error = chained(ValueError, KeyError("x"))

    assert loggable(error) is error


class Hostile(Exception):  # noqa: N818 - it is not to be helpful
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


def test_an_error_that_cannot_be_asked_is_told_by_its_class() -> None:
    assert summarize_any(Hostile()) == "Hostile: (its message cannot be shown)"


def test_a_stand_in_has_the_traceback_of_the_error() -> None:
    with pytest.raises(CheckViolation) as caught:
        refuse()

    stand_in = loggable(caught.value)

    assert isinstance(stand_in, StoreError)
    assert "in refuse" in formatted(stand_in)


def refuse() -> None:
    raise CheckViolation(TEXT)
