"""One rule says which metadata runs are found by, for the runs that are created and for those that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine import WorkflowBuilder, WorkflowRuntime
from workflow_engine.definition import NoInput, define_stage
from workflow_engine.errors import InvalidRequestError
from workflow_engine.store.reads import run_metadata as searching
from workflow_engine.store.schema.tables import run_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def runtime() -> Iterator[WorkflowRuntime]:
    only = define_stage(id="only", execute=lambda _: 1, input=NoInput, output=int)
    with WorkflowRuntime(WorkflowBuilder("a").pipe(only).build(), database_url="sqlite://") as runtime:
        yield runtime


def is_found(runtime: WorkflowRuntime, run_id: str, metadata: dict[str, Any]) -> bool:
    try:
        return [run.id for run in runtime.list_runs(metadata=metadata).items] == [run_id]
    except InvalidRequestError:
        return False


def is_kept(runtime: WorkflowRuntime) -> bool:
    return bool(runtime.engine.database.read(lambda tx: tx.execute(run_metadata.select()).all()))


@pytest.mark.parametrize(
    ("value", "is_searchable"),
    [
        *((value, True) for value in ("x", "", "\x00", "\ud800", "x" * 253, 1, 1.5, True, None, 10**200)),
        *((value, False) for value in ("x" * 254, "é" * 200, [], {}, [1], {"a": 1}, 10**255)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_run_is_found_by_what_was_kept_for_that(runtime: WorkflowRuntime, value: Any, *, is_searchable: bool) -> None:
    run = runtime.create_run("a", metadata={"key": value})

    assert is_kept(runtime) is is_searchable
    assert is_found(runtime, run.id, {"key": value}) is is_searchable


def test_a_key_that_is_too_long_once_it_can_be_stored_is_not_kept(runtime: WorkflowRuntime) -> None:
    key = "\x00" * 100
    runtime.create_run("a", metadata={key: 1})

    assert not is_kept(runtime)
    assert runtime.list_runs(metadata={key: 1}).items == ()


def test_one_bound_of_a_searchable_text_is_what_creating_and_finding_go_by(
    runtime: WorkflowRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_LONGEST_TEXT", 7)

    run = runtime.create_run("a", metadata={"short": "ana", "long": "anastasia"})

    assert is_found(runtime, run.id, {"short": "ana"})
    with pytest.raises(InvalidRequestError, match="short scalars"):
        runtime.list_runs(metadata={"long": "anastasia"})
