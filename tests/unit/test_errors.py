"""Every error survives pickling, and the tree at the top of the module is the tree of classes."""

from __future__ import annotations

import inspect
import pickle
import re
from datetime import timedelta

import pytest

from workflow_engine import errors
from workflow_engine.errors import (
    ErrorCode,
    InvalidDataError,
    RetryAfter,
    RunError,
    StageError,
    StageNotFoundError,
    WorkflowEngineError,
    WorkflowNotFoundError,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, WorkflowEngineError) and value.__module__ == errors.__name__
]

ARGUMENTS: dict[str, tuple[object, ...]] = {
    "InvalidDataError": ("input", ["a: wrong", "b: missing"]),
    "WorkflowNotFoundError": ("billing", ["b", "a"]),
    "RunNotFoundError": ("run-1",),
    "StageNotFoundError": ("extract", "analysis"),
    "RetryAfter": (timedelta(seconds=5), "busy"),
}


def make(cls: type[WorkflowEngineError]) -> WorkflowEngineError:
    default = ("run-1", "it ended") if issubclass(cls, RunError) else ("a message",)
    return cls(*ARGUMENTS.get(cls.__name__, default))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_survives_pickling(cls: type[WorkflowEngineError]) -> None:
    error = make(cls)

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert type(copy) is cls
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn: list[tuple[int, str]] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines()[2:]:
        match = re.match(r"^([│├└─ ]*)(\w+)", line)
        if match:
            drawn.append((len(match[1]) // 4, match[2]))
    parents: dict[str, str | None] = {}
    above: dict[int, str] = {}
    for depth, name in drawn:
        above[depth] = name
        parents[name] = above[depth - 1] if depth else None

    assert parents == {
        cls.__name__: None if cls is WorkflowEngineError else cls.__bases__[0].__name__ for cls in CLASSES
    }


def test_invalid_data_lists_every_problem() -> None:
    error = InvalidDataError('input of workflow "w"', ["a: missing", "b.c: wrong"])

    assert str(error) == 'Invalid input of workflow "w": a: missing; b.c: wrong'
    assert error.problems == ("a: missing", "b.c: wrong")


def test_a_missing_workflow_names_those_that_are_registered() -> None:
    assert str(WorkflowNotFoundError("x", ["b", "a"])) == "Workflow 'x' is not registered (registered: b, a)"
    assert str(WorkflowNotFoundError("x")) == "Workflow 'x' is not registered (registered: none)"


def test_a_missing_stage_names_its_workflow() -> None:
    assert str(StageNotFoundError("s", "w")) == 'Stage "s" not found in workflow "w" (stages: none)'
    assert str(StageNotFoundError("reed", "w", ["read", "write"])) == (
        'Stage "reed" not found in workflow "w" (did you mean "read"? stages: read, write)'
    )


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="zero or more"):
        RetryAfter(timedelta(seconds=-1))


def test_no_delay_is_allowed() -> None:
    assert RetryAfter(timedelta(0)).delay == timedelta(0)


def test_stage_errors_carry_a_code() -> None:
    codes = {cls.__name__: cls.code for cls in CLASSES if issubclass(cls, StageError)}

    assert codes == {
        "StageError": ErrorCode.STAGE_ERROR,
        "StageOutputMissing": ErrorCode.OUTPUT_MISSING,
        "StageSkipped": ErrorCode.STAGE_SKIPPED,
        "StageTimeout": ErrorCode.TIMEOUT,
        "StageCancelled": ErrorCode.STAGE_ERROR,
        "LeaseLost": ErrorCode.STAGE_ERROR,
        "RetryAfter": ErrorCode.STAGE_ERROR,
    }


def test_codes_are_stored_under_their_own_names() -> None:
    assert all(code.value == code.name for code in ErrorCode)
