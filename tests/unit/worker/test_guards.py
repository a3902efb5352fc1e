from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.message import Message

from workflow_engine.worker.names import EXECUTE_STAGE, SWEEP
from workflow_engine.worker.wire.message_guards import (
    LARGEST_BODY,
    find_problem,
)

ID = "01890000-0000-7000-8000-00000000abcd"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def message(body: Any = None, *, raw: bytes | None = None, **changes: Any) -> Message:
    content = json.dumps([[ID, 1], {}, EMBED] if body is None else body).encode() if raw is None else raw
    headers = {"task": "workflow_engine.execute_stage", "id": "t", "timelimit": [None, None], "eta": None}
    return Message(
        body=content,
        content_type=changes.pop("content_type", "application/json"),
        content_encoding=changes.pop("content_encoding", "utf-8"),
        headers={**headers, **changes},
    )


def test_a_well_formed_message_passes() -> None:
    assert find_problem(message(), EXECUTE_STAGE) is None


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("ab", "the arguments are not [stage run id, dispatch number]"),
        ([ID], "the arguments are not [stage run id, dispatch number]"),
        ([ID, 1, 2], "the arguments are not [stage run id, dispatch number]"),
        ([ID.upper(), 1], "the first argument is no stage run id"),
        ([ID + "\n", 1], "the first argument is no stage run id"),
        ([7, 1], "the first argument is no stage run id"),
        ([ID, True], "the second argument is no dispatch number"),
        ([ID, "1"], "the second argument is no dispatch number"),
        ([ID, 1.0], "the second argument is no dispatch number"),
        ([ID, 0], "the second argument is no dispatch number"),
        ([ID, 2**31], "the second argument is no dispatch number"),
    ],
)
def test_arguments_that_no_dispatch_sends_are_refused(arguments: Any, problem: str) -> None:
    assert find_problem(message([arguments, {}, EMBED]), EXECUTE_STAGE) == problem


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_canvas_fields_are_refused(name: str) -> None:
    forged = message([[ID, 1], {}, {**EMBED, name: [{"task": "celery.ping"}]}])

    assert find_problem(forged, EXECUTE_STAGE) == "keyword arguments and canvas fields are not ours"


@pytest.mark.parametrize(
    "headers",
    [
        {"eta": "9999-12-31T00:00:00"},
        {"expires": 1},
        {"group": "g"},
        {"chord": "c"},
        {"stamps": {"a": 1}},
        {"timelimit": [0.1, None]},
        {"id": None},
        {"id": 3},
        {"compression": "application/x-gzip"},
        {"argsrepr": "x" * 5000},
    ],
)
def test_headers_that_celery_would_act_on_are_refused(headers: dict[str, Any]) -> None:
    assert find_problem(message(**headers), EXECUTE_STAGE) is not None


def test_bodies_are_measured_before_they_are_read() -> None:
    large = message(raw=b"[" * (LARGEST_BODY + 1))

    assert find_problem(large, EXECUTE_STAGE) == "the body is too large, or none"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[" * LARGEST_BODY, b"\xff\xfe", b"{}", b"[]", b"[1]", b"[[],{}]", b"null"]
)
def test_bodies_of_another_shape_are_refused(raw: bytes) -> None:
    assert find_problem(message(raw=raw), EXECUTE_STAGE) is not None


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/x-yaml", None])
def test_other_content_than_json_is_refused(content_type: str | None) -> None:
    assert find_problem(message(content_type=content_type), EXECUTE_STAGE) is not None


def test_the_sweep_takes_no_arguments() -> None:
    assert find_problem(message([[], {}, EMBED]), SWEEP) is None
    assert find_problem(message([[1], {}, EMBED]), SWEEP) == "the sweep takes no arguments"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_whatever_json_comes_the_guard_answers_and_lets_only_hints_pass(body: Any) -> None:
    problem = find_problem(message(raw=json.dumps(body).encode()), EXECUTE_STAGE)

    assert problem is not None


@given(st.binary(max_size=300))
def test_whatever_bytes_come_the_guard_answers(raw: bytes) -> None:
    assert find_problem(message(raw=raw), EXECUTE_STAGE) is not None
