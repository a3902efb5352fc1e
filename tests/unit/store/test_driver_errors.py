"""The operation that an error of a statement is named after."""

from __future__ import annotations

from importlib import import_module

import pytest

from workflow_engine.store.connection.driver_errors import MACHINERY, operation_of


def raise_in(module: str) -> None:
    """Raise in a function ``list_something`` of this module, below one of the store's machinery."""
    code = "def list_something(call):\n    call()\ndef execute():\n    raise LookupError"
    outer: dict[str, object] = {"__name__": "workflow_engine.engine.example"}
    inner: dict[str, object] = {"__name__": module}
    exec(code, outer)  # noqa: S102 - functions of modules that do not exist
    exec(code, inner)  # noqa: S102
    outer["list_something"](inner["execute"])  # type: ignore[operator]


@pytest.mark.parametrize(
    "module", ["workflow_engine.store.connection.postgres_connection", "sqlalchemy.engine", *MACHINERY]
)
def test_an_operation_is_named_after_the_function_that_asked_and_not_after_what_executes_statements(
    module: str,
) -> None:
    with pytest.raises(LookupError) as caught:
        raise_in(module)

    assert operation_of(caught.value.__traceback__) == "list_something"


def test_the_innermost_function_of_the_package_gives_the_name() -> None:
    with pytest.raises(LookupError) as caught:
        raise_in("workflow_engine.store.reads.example")

    assert operation_of(caught.value.__traceback__) == "execute"


def test_a_statement_of_nobody_has_a_name_too() -> None:
    assert operation_of(None) == "a statement"


@pytest.mark.parametrize("module", MACHINERY)
def test_what_executes_statements_is_where_it_is_looked_for(module: str) -> None:
    assert import_module(module)
