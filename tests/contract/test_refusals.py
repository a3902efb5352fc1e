"""Every argument of every public method of the facade, given what it cannot mean: refused by name, nothing changed."""

from __future__ import annotations

import inspect
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from workflow_engine import WorkflowRuntime
from workflow_engine.definition import StageContext, WorkflowBuilder, stage
from workflow_engine.errors import InvalidRequestError
from workflow_engine.facade.annotating import RunNotes
from workflow_engine.facade.argument_checks import find_check
from workflow_engine.facade.callbacks import RunCallbacks
from workflow_engine.facade.reading import RunReader
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.facade.steering import RunControl
from workflow_engine.settings import Settings
from workflow_engine.store.schema.tables import metadata
from workflow_engine.testing.kit import WorkflowTester

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow_engine.store.connection.database import Database


@stage
def read(ctx: StageContext[dict[str, Any]]) -> dict[str, Any]:
    return ctx.input


documents = WorkflowBuilder("documents", input=dict[str, Any]).pipe(read).build()

#: Parameters without a rule of their own, and what checks them.
ELSEWHERE = {
    "app": "the worker's installation",
    "config": "the workflow's schemas",
    "consume": "the worker's installation",
    "create_run.metadata": "create_run",
    "create_run.parent": "create_run",
    "deadline": "create_run",
    "input": "the workflow's schema",
    "annotate.key": "the annotation's name",
    "output": "the stage's schema",
    "priority": "create_run",
    "start_after": "create_run",
    "value": "the annotation's type",
}

NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - what is refused
INSTANTS = [NAIVE, "2030-01-01", 1_900_000_000, timedelta(days=1), datetime.max.replace(tzinfo=UTC)]
NUMBERS = [-1, "1", 1.5, True, 2**31, math.nan]
FLAGS = ["yes", 1, 0]
TEXTS = [7, b"x", ["x"], {}]
DURATIONS = [5, 5.0, "5s", timedelta.max]

#: What each parameter is given; a method in front restricts it to that one.
HOSTILE: dict[str, list[Any]] = {
    "actor": ["", "x" * 201, "a\x00", 7],
    "after": ["x", "9" * 30 + "_s_1_1", "1_s_1", 7],
    "after_sequence": NUMBERS,
    "annotate.key": ["", "a b", 7, "ä"],
    "get_artifact.key": ["", "a\x00", "\ud800", "x" * 513, 7],
    "attempt": NUMBERS,
    "completed_after": INSTANTS,
    "concurrency": [0, -1, "4", True],
    "config": [7, [1], {"nobody": {}}],
    "create_run.metadata": [[1], {1: "a"}],
    "created_after": INSTANTS,
    "created_before": INSTANTS,
    "cursor": ["x", 7, "", "'; DROP TABLE workflow_runs; --"],
    "deadline": [NAIVE, 5, "5s", timedelta(0)],
    "dry_run": FLAGS,
    "error": TEXTS,
    "expected_generation": NUMBERS,
    "force": FLAGS,
    "from_stage": TEXTS,
    "generation": NUMBERS,
    "grace": [*DURATIONS, timedelta(seconds=-1)],
    "history": FLAGS,
    "idempotency_key": ["", "k" * 256, "a\x00", 7],
    "input": [7, [1], {"a": math.nan}],
    "limit": [0, -1, 1001, 10**9, "10", 2.5, True],
    "list_runs.metadata": [[1], "x", {1: "a"}, {"a": [1]}, {"a": "x" * 300}, {"a": math.nan}],
    "list_runs.parent": TEXTS,
    "older_than": [*DURATIONS, timedelta(seconds=-1), None],
    "only": FLAGS,
    "output": [7, [1]],
    "poll_interval": [*DURATIONS, timedelta(0), timedelta(seconds=-1)],
    "prefix": TEXTS,
    "priority": [11, -1, "5", 5.0, True],
    "reason": TEXTS,
    "run_id": [*TEXTS, None],
    "since": INSTANTS,
    "stage": TEXTS,
    "stage_id": [*TEXTS, None],
    "start_after": [NAIVE, "2030-01-01", 5],
    "status": ["DONE", 7, [None], ["FAILED", "DONE"], object()],
    "statuses": ["DONE", 7, [None], ["FAILED", "DONE"], ["RUNNING"]],
    "terminate": FLAGS,
    "timeout": DURATIONS,
    "token": [*TEXTS, "", "x", "a.b"],
    "valid_for": [*DURATIONS, timedelta(0), timedelta(seconds=-1)],
    "value": [math.nan, object()],
    "workflow": TEXTS,
    "workflow_id": TEXTS,
}
#: What installs something, and what only bodies have.
NOT_CALLED = {"app", "consume", "create_run.parent"}
#: What a message calls the parameter, where that is another word.
NAMED = {
    "after": "", "cursor": "cursor", "from_stage": "stage", "output": "output of stage", "stage_id": "stage",
    "statuses": "", "token": "token", "value": "annotation", "workflow_id": "workflow",
}  # fmt: skip
#: Required arguments of methods, as a caller would give them.
FINE: dict[str, Any] = {
    "actor": "ada", "after_sequence": 0, "error": "no", "from_stage": "read", "key": "k", "older_than": timedelta(0),
    "output": {}, "stage": "read", "stage_id": "read", "value": 1, "workflow": "documents", "workflow_id": "documents",
}  # fmt: skip


def public_methods() -> Iterator[tuple[type, str]]:
    for cls in (RunReader, RunCallbacks, RunNotes, RunControl, RunHandle, WorkflowRuntime):
        for name, member in vars(cls).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                yield cls, name


def parameters() -> Iterator[tuple[type, str, str]]:
    for cls, method in public_methods():
        for parameter in list(inspect.signature(getattr(cls, method)).parameters)[1:]:
            yield cls, method, parameter


def hostile_values(method: str, parameter: str) -> list[Any]:
    return HOSTILE.get(f"{method}.{parameter}") or HOSTILE[parameter]


PARAMETERS = [pytest.param(*one, id=f"{one[0].__name__}.{one[1]}({one[2]})") for one in parameters()]
CALLED = [one for one in PARAMETERS if not {one.values[2], f"{one.values[1]}.{one.values[2]}"} & NOT_CALLED]


@pytest.mark.parametrize(("cls", "method", "parameter"), PARAMETERS)
def test_every_parameter_has_a_rule_or_says_what_checks_it(cls: type, method: str, parameter: str) -> None:
    known = {parameter, f"{method}.{parameter}"}

    assert (find_check(method, parameter) is not None) != bool(known & ELSEWHERE.keys()), cls


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('refusals') / 'runs.db'}"


@pytest.fixture(scope="module")
def runtime(url: str) -> Iterator[WorkflowRuntime]:
    settings = Settings(database_url=url, signing_key=SecretStr("k"))
    with WorkflowRuntime([documents], settings=settings) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def run(runtime: WorkflowRuntime, url: str) -> RunHandle[Any]:
    with WorkflowTester(documents, database_url=url) as tester:
        created = tester.create_run(documents, {"a": 1})
        tester.run_until_idle()
    return runtime.get_run(created.id)


def count_rows(database: Database) -> dict[str, int]:
    def count(tx: Any) -> dict[str, int]:
        return {name: tx.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in metadata.tables}

    return database.read(count)


@pytest.mark.parametrize(("cls", "method", "parameter"), CALLED)
def test_what_an_argument_cannot_mean_is_refused_and_nothing_changes(
    run: RunHandle[Any], cls: type, method: str, parameter: str
) -> None:
    runtime: Any = run._runs
    call = getattr(run if cls is RunHandle else runtime, method)
    fine = {"run_id": run.id, **FINE, "token": runtime.callback_token(run.id, "read")}
    needed = [one.name for one in inspect.signature(call).parameters.values() if one.default is one.empty]
    before = count_rows(runtime.database), run.snapshot()
    accepted, messages = [], []

    for value in hostile_values(method, parameter):
        try:
            accepted.append((value, call(**{name: fine[name] for name in needed} | {parameter: value})))
        except InvalidRequestError as error:
            messages.append(str(error))

    assert accepted == []
    assert [message for message in messages if NAMED.get(parameter, parameter) not in message] == []
    assert (count_rows(runtime.database), run.snapshot()) == before


def test_what_comes_too_late_is_a_timeout_and_no_mistake(runtime: WorkflowRuntime, run: RunHandle[Any]) -> None:
    assert run.wait(timeout=timedelta(seconds=-1)) == {"a": 1}


def test_pages_may_be_as_long_as_they_say(runtime: WorkflowRuntime, run: RunHandle[Any]) -> None:
    for _ in range(3):
        runtime.create_run(documents, {})

    assert len(runtime.list_runs(limit=1000).items) == len(runtime.list_runs(status="completed".upper()).items) + 3
    first = runtime.list_runs(limit=1)
    assert runtime.list_runs(limit=1, cursor=first.next_cursor).items[0].id < first.items[0].id
