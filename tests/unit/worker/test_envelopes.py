from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport.virtual import Message

from workflow_engine.worker.wire.envelopes import find_entry_problem, find_envelope_problem


def envelope(**changes: Any) -> dict[str, Any]:
    properties = {
        "delivery_tag": "t",
        "delivery_info": {"exchange": "", "routing_key": "workflow"},
        "body_encoding": "base64",
    }
    message = {"body": "W10=", "headers": {"task": "a", "id": "b"}, "properties": properties}
    return {**message, **changes}


def test_a_well_formed_envelope_passes() -> None:
    assert find_envelope_problem(envelope()) is None


def test_what_kombu_itself_writes_passes() -> None:
    with Connection("memory://localhost/") as connection, connection.channel() as channel:
        message = channel.prepare_message("[]", 0, "application/json", "utf-8", {"task": "a", "id": "b"}, {})
        channel._inplace_augment_message(message, "", "workflow")

    assert find_envelope_problem(message) is None


@pytest.mark.parametrize(
    "entry", [b"", b"x", b"null", b"[]", b"1", b'"a"', b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5_000]
)
def test_entries_that_are_no_object_are_found(entry: bytes) -> None:
    assert find_entry_problem(entry) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"properties": None},
        {"properties": {}},
        {"properties": {"delivery_tag": ["t"], "delivery_info": {"exchange": "", "routing_key": "w"}}},
        {"properties": {"delivery_tag": "t", "delivery_info": None}},
        {"properties": {"delivery_tag": "t", "delivery_info": {"exchange": ""}}},
        {"headers": None},
        {"headers": []},
        {"headers": {"task": ["unhashable"], "id": "b"}},
        {"headers": {"task": "a"}},
        {"body": {}},
        {"body": None},
        {"body": "A"},
        {"body": "é"},
    ],
)
def test_envelopes_that_kombu_or_celery_would_fail_on_are_found(changes: dict[str, Any]) -> None:
    assert find_envelope_problem(envelope(**changes)) is not None


def test_an_envelope_with_an_unknown_body_encoding_is_found() -> None:
    odd = envelope()
    odd["properties"]["body_encoding"] = "rot13"

    assert find_envelope_problem(odd) == "the body's encoding is unknown"


VALUES = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "body": VALUES,
            "headers": VALUES | st.dictionaries(st.sampled_from(["task", "id"]), VALUES),
            "properties": VALUES
            | st.fixed_dictionaries(
                {},
                optional={
                    "delivery_tag": VALUES,
                    "body_encoding": VALUES | st.just("base64"),
                    "delivery_info": VALUES | st.dictionaries(st.sampled_from(["exchange", "routing_key"]), VALUES),
                },
            ),
        },
    )
)
def test_kombu_can_read_whatever_passes(message: dict[str, Any]) -> None:
    if find_envelope_problem(json.loads(json.dumps(message))) is not None:
        return
    with Connection("memory://localhost/") as connection, connection.channel() as channel:
        read = Message(message, channel=channel)
        channel.qos.append(read, read.delivery_tag)

        assert read.delivery_tag == message["properties"]["delivery_tag"]
