"""What must be refused, and how: a typed error at the edge, nothing written, records consistent. On each database."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_engine.definition import StageContext, WorkflowBuilder, stage
from workflow_engine.errors import (
    ConflictError,
    IdempotencyConflictError,
    InvalidDataError,
    InvalidPriorityError,
    InvalidRequestError,
    NotFoundError,
    PayloadError,
    RerunRefusedError,
    RunNotFoundError,
    RunStateError,
    StageNotFoundError,
    WorkflowNotFoundError,
)
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import RunStatus
from workflow_engine.store.schema.tables import metadata
from workflow_engine.testing.kit import WorkflowTester


class Document(BaseModel):
    url: str
    pages: int = 1


class Limit(BaseModel):
    most: int = 10


@stage
def read(ctx: StageContext[Document, Limit]) -> dict[str, Any]:
    return {"url": ctx.input.url}


@stage
def keep(ctx: StageContext[dict[str, Any]]) -> dict[str, Any]:
    return ctx.input


documents = WorkflowBuilder("documents", input=Document).pipe(read).pipe(keep).build()
anything = WorkflowBuilder("anything", input=dict[str, Any]).pipe(keep).build()

FINE = {"url": "https://example.org"}
UNKNOWN = new_id()


class Ten(int):
    """A number that only looks like one."""


@pytest.fixture
def tester(database_url: str) -> Iterator[WorkflowTester]:
    with WorkflowTester([documents, anything], database_url=database_url) as started:
        yield started
        started.assert_consistent()


def count_rows(tester: WorkflowTester) -> dict[str, int]:
    def count(tx: Any) -> dict[str, int]:
        return {name: tx.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in metadata.tables}

    return tester.database.read(count)


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


Create = dict[str, Any]

#: Number of the case, what is asked for, the error, and a word that its message must have.
REFUSED_CREATIONS: list[tuple[str, Create, type[Exception], str]] = [
    ("30 unknown workflow", {"workflow": "documentz"}, WorkflowNotFoundError, "documents"),
    ("30 a workflow that is none", {"workflow": "'; DROP TABLE workflow_runs; --"}, WorkflowNotFoundError, "DROP"),
    ("37 a field is missing", {"input": {}}, InvalidDataError, "url"),
    ("37 a field has the wrong type", {"input": {**FINE, "pages": "many"}}, InvalidDataError, "pages"),
    ("38 input is a text", {"input": "https://example.org"}, InvalidDataError, "input of workflow"),
    ("38 input is a list", {"input": [FINE]}, InvalidDataError, "input of workflow"),
    ("38 input is a number", {"input": 7}, InvalidDataError, "input of workflow"),
    ("39 config for an unknown stage", {"config": {"raed": {}}}, InvalidRequestError, "read"),
    ("40 config of the wrong type", {"config": {"read": {"most": "ten"}}}, InvalidDataError, "most"),
    ("40 config with an unknown field", {"config": {"read": {"mots": 1}}}, InvalidRequestError, "most"),
    ("40 a stage's config is a list", {"config": {"read": [1]}}, InvalidRequestError, "read"),
    ("40 config is a list", {"config": [("read", {})]}, InvalidRequestError, "config"),
    ("41 priority is negative", {"priority": -1}, InvalidPriorityError, "0"),
    ("41 priority is too high", {"priority": 11}, InvalidPriorityError, "10"),
    ("41 priority is huge", {"priority": 2**80}, InvalidPriorityError, "10"),
    ("41 priority is a float", {"priority": 5.0}, InvalidPriorityError, "whole number"),
    ("41 priority is a bool", {"priority": True}, InvalidPriorityError, "whole number"),
    ("41 priority is NaN", {"priority": math.nan}, InvalidPriorityError, "whole number"),
    ("41 priority is a text", {"priority": "5"}, InvalidPriorityError, "whole number"),
    ("42 the key is empty", {"idempotency_key": ""}, InvalidDataError, "idempotency_key"),
    ("42 the key is too long", {"idempotency_key": "k" * 256}, InvalidDataError, "idempotency_key"),
    ("42 the key has a NUL", {"idempotency_key": "a\x00b"}, InvalidDataError, "idempotency_key"),
    ("42 the key has half a surrogate pair", {"idempotency_key": "\ud800"}, InvalidDataError, "idempotency_key"),
    ("42 the key is no text", {"idempotency_key": 42}, InvalidDataError, "idempotency_key"),
    ("43 a naive start", {"start_after": datetime(2030, 1, 1)}, InvalidDataError, "start_after"),  # noqa: DTZ001
    ("43 a naive deadline", {"deadline": datetime(2030, 1, 1)}, InvalidDataError, "deadline"),  # noqa: DTZ001
    ("43 the end of time", {"start_after": datetime.max.replace(tzinfo=UTC)}, InvalidDataError, "start_after"),
    (
        "43 the end of time elsewhere",
        {"deadline": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))},
        InvalidDataError,
        "deadline",
    ),
    ("43 a start that is a text", {"start_after": "2030-01-01"}, InvalidDataError, "start_after"),
    ("43 a deadline in the past", {"deadline": timedelta(0)}, InvalidDataError, "deadline"),
    ("43 a negative deadline", {"deadline": timedelta(seconds=-1)}, InvalidDataError, "deadline"),
    ("43 a deadline beyond time", {"deadline": timedelta.max}, InvalidDataError, "deadline"),
    ("45 metadata is too large", {"metadata": {"note": "x" * 2**20}}, PayloadError, "metadata"),
    ("45 metadata is a list", {"metadata": [1]}, InvalidDataError, "metadata"),
    ("45 metadata with a key that is no text", {"metadata": {1: "x"}}, InvalidDataError, "metadata"),
    ("45 metadata that is no JSON", {"metadata": {"at": object()}}, PayloadError, "at"),
]


@pytest.mark.parametrize(
    ("asked", "error", "word"), [case[1:] for case in REFUSED_CREATIONS], ids=[case[0] for case in REFUSED_CREATIONS]
)
def test_a_run_that_cannot_be_is_refused_and_nothing_is_written(
    tester: WorkflowTester, asked: Create, error: type[Exception], word: str
) -> None:
    before = count_rows(tester)

    with pytest.raises(error, match=word):
        tester.create_run(**{"workflow": documents, "input": FINE, **asked})

    assert count_rows(tester) == before
    assert tester.messages.waiting == []


REFUSED_PAYLOADS: list[tuple[str, Callable[[], Any], str]] = [
    ("46 NaN", lambda: math.nan, "a"),
    ("46 infinity", lambda: -math.inf, "a"),
    ("48 a surrogate pair in pieces", lambda: "\ud83d" + "\ude00", "a"),
    ("49 nested too deeply", lambda: nested(300), "a"),
    ("50 a cycle", cyclic, "a"),
    ("51 a set", lambda: {1, 2}, "a"),
    ("51 bytes that are no text", lambda: b"\xff", "a"),
    ("51 a decimal", lambda: Decimal("1.5"), "a"),
    ("51 an instant", lambda: datetime(2030, 1, 1, tzinfo=UTC), "a"),
    ("51 an object", object, "a"),
    ("53 a key that is no text", lambda: {1: "x"}, "a"),
    ("53 keys that collide", lambda: {1: "x", "1": "y"}, "a"),
    ("54 a number of too many digits", lambda: 10**5000, "a"),
    ("56 too large", lambda: "x" * (2**20), "bytes"),
]


@pytest.mark.parametrize(
    ("make", "word"), [case[1:] for case in REFUSED_PAYLOADS], ids=[case[0] for case in REFUSED_PAYLOADS]
)
def test_an_input_that_json_cannot_carry_is_refused_with_its_path(
    database_url: str, make: Callable[[], Any], word: str
) -> None:
    with WorkflowTester(anything, database_url=database_url, max_payload_bytes=2**20) as tester:
        before = count_rows(tester)

        with pytest.raises(InvalidRequestError, match=word):
            tester.create_run(anything, {"a": make()})

        assert count_rows(tester) == before


CARRIED = {
    "47 NUL": "a\x00b",
    "48 half a surrogate pair": "\ud800",
    "52 unicode": "ä ß 漢 🙂",
    "54 beyond 2**53": 2**63 + 1,
    "54 negative": -(2**200),
    "55 a float of 17 digits": 0.1 + 0.2,
    "55 minus zero": -0.0,
    "55 the smallest": 5e-324,
    "55 the largest": 1.7976931348623157e308,
    "58 nothing": None,
    "58 false": False,
    "58 an empty text": "",
    "61 a key that kombu would decode": {"__type__": "uuid", "__value__": "x"},
    "61 a reserved name of JavaScript": {"__proto__": {"x": 1}},
}


def test_what_json_can_carry_comes_back_exactly(tester: WorkflowTester) -> None:
    run = tester.create_run(anything, CARRIED)

    tester.run_to_end(run)

    assert repr(run.output()) == repr(CARRIED)


def test_a_tuple_comes_back_as_a_list(tester: WorkflowTester) -> None:
    run = tester.create_run(anything, {"pair": (1, 2)})

    tester.run_to_end(run)

    assert run.output() == {"pair": [1, 2]}


def test_texts_that_look_like_sql_are_kept_as_they_are(tester: WorkflowTester) -> None:
    text = "'; DROP TABLE workflow_runs; -- \" \\ %s :id"

    run = tester.create_run(anything, {"a": text}, metadata={"who": text}, idempotency_key=text)
    tester.run_to_end(run)

    assert run.output() == {"a": text}
    assert [found.id for found in tester.list_runs(metadata={"who": text}).items] == [run.id]
    assert tester.create_run(anything, {"a": text}, idempotency_key=text).id == run.id


def test_a_key_stands_for_one_request(tester: WorkflowTester) -> None:
    first = tester.create_run(documents, FINE, idempotency_key="once")
    before = count_rows(tester)

    assert tester.create_run(documents, FINE, idempotency_key="once").id == first.id
    with pytest.raises(IdempotencyConflictError, match="once"):
        tester.create_run(documents, {"url": "https://example.com"}, idempotency_key="once")

    assert count_rows(tester) == before


@pytest.mark.parametrize("start_after", [datetime(1999, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)])
def test_a_start_in_the_past_means_now(tester: WorkflowTester, start_after: datetime) -> None:
    run = tester.create_run(documents, FINE, start_after=start_after)

    assert tester.deliver().result == "completed"
    assert run.status is RunStatus.RUNNING


#: Ids that name no run: of the right shape, of no shape, and none at all.
NO_RUNS: dict[str, Any] = {
    "27 unknown": UNKNOWN,
    "28 empty": "",
    "28 too long": "x" * 100_000,
    "28 with a NUL": "a\x00b",
    "28 with half a surrogate pair": "\ud800",
    "29 SQL": "' OR '1'='1",
    "28 a path": "../../etc/passwd",
}
COMMANDS: dict[str, Callable[[WorkflowTester, Any], object]] = {
    "get_run": lambda tester, run_id: tester.get_run(run_id),
    "cancel": lambda tester, run_id: tester.cancel(run_id),
    "pause": lambda tester, run_id: tester.pause(run_id),
    "resume": lambda tester, run_id: tester.resume(run_id),
    "rerun": lambda tester, run_id: tester.rerun(run_id, from_stage="read"),
    "fork": lambda tester, run_id: tester.fork(run_id, from_stage="read"),
    "complete_stage": lambda tester, run_id: tester.complete_stage(run_id, "read", {}),
    "fail_stage": lambda tester, run_id: tester.fail_stage(run_id, "read", "no"),
    "transition_workflow": lambda tester, run_id: tester.transition_workflow(run_id),
    "output": lambda tester, run_id: tester.get_output(run_id),
    "annotate": lambda tester, run_id: tester.annotate(run_id, "key", 1),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_run_that_is_not_there_is_an_error_of_its_own(
    tester: WorkflowTester, command: Callable[[WorkflowTester, Any], object]
) -> None:
    before = count_rows(tester)

    for run_id in NO_RUNS.values():
        with pytest.raises(RunNotFoundError):
            command(tester, run_id)

    assert count_rows(tester) == before


@pytest.mark.parametrize("run_id", [None, 7, b"x", ["x"], {}], ids=repr)
def test_an_id_that_is_no_text_is_refused(tester: WorkflowTester, run_id: Any) -> None:
    for command in COMMANDS.values():
        with pytest.raises(InvalidRequestError, match="run_id must be a string"):
            command(tester, run_id)


def test_a_stage_that_is_not_there_or_a_run_that_goes_on_is_not_rerun(tester: WorkflowTester) -> None:
    run = tester.create_run(documents, FINE)
    with pytest.raises(RunStateError):
        tester.rerun(run.id, from_stage="read")
    tester.cancel(run.id)
    before = count_rows(tester)

    with pytest.raises(StageNotFoundError, match='Stage "raed" not found in workflow "documents"'):
        tester.rerun(run.id, from_stage="raed")
    with pytest.raises(RerunRefusedError, match="no completed stages found before execution group 2"):
        tester.rerun(run.id, from_stage="keep")

    assert count_rows(tester) == before
    assert issubclass(RerunRefusedError, ConflictError)


def test_what_has_ended_stays_as_it_is_when_it_is_cancelled_paused_or_reported(tester: WorkflowTester) -> None:
    run = tester.create_run(documents, FINE)
    tester.run_to_end(run)
    before = count_rows(tester)

    assert tester.cancel(run.id).status is RunStatus.COMPLETED
    assert tester.complete_stage(run.id, "read", {}) is False
    assert tester.fail_stage(run.id, "read", "no") is False
    with pytest.raises(RunStateError):
        tester.pause(run.id)
    with pytest.raises(NotFoundError):
        tester.complete_stage(run.id, "raed", {})

    assert count_rows(tester) == before


@pytest.mark.parametrize("output", [math.nan, {"a": math.inf}, object(), [1]], ids=["nan", "inf", "object", "list"])
def test_a_reported_output_that_does_not_fit_is_refused_and_the_stage_goes_on_waiting(
    tester: WorkflowTester, output: Any
) -> None:
    run = tester.create_run(documents, FINE)
    before = count_rows(tester)

    with pytest.raises(InvalidRequestError):
        tester.complete_stage(run.id, "read", output)

    assert count_rows(tester) == before
    tester.run_to_end(run)
    assert run.status is RunStatus.COMPLETED


@pytest.mark.parametrize(
    "token",
    ["", ".", "\ud800", "a.b.\ud800", "x" * 10**6, "a\x00b.1.c", f"{UNKNOWN}.{'9' * 5000}.x"],
    ids=["empty", "dot", "surrogate", "surrogate inside", "long", "NUL", "many digits"],
)
def test_a_forged_token_is_refused_like_any_other(database_url: str, token: str) -> None:
    with WorkflowTester(documents, database_url=database_url, signing_key="k" * 32) as tester:
        before = count_rows(tester)

        with pytest.raises(InvalidRequestError, match="The callback token is not valid, or not any more"):
            tester.complete_by_token(token, {})

        assert count_rows(tester) == before
