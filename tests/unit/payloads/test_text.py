"""Payloads come back as they were, or are refused with the place that cannot."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_engine.errors import PayloadError
from workflow_engine.payloads.text import MAX_DEPTH, compose_object, decode_json, encode_json, is_too_deep

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def short(value: object) -> str:
    try:
        return ascii(value)[:40]
    except ValueError:
        return "huge"


def nested(levels: int, *, wrap: str = "list") -> Any:
    value: Any = []
    for level in range(levels - 1):
        in_list = wrap == "list" or (wrap == "both" and level % 2)
        value = [value] if in_list else {"a": value}
    return value


def refusal(value: object, *, max_bytes: int | None = None) -> str:
    with pytest.raises(PayloadError) as caught:
        encode_json(value, what="metadata", max_bytes=max_bytes)
    return str(caught.value)


@given(JSON_VALUES)
def test_every_json_value_comes_back_as_it_was(value: Any) -> None:
    text = encode_json(value, what="value")

    assert text.isascii()
    assert repr(decode_json(text)) == repr(value)


@given(st.text(st.characters(categories=["Cs", "Cc", "Ll", "So"]), max_size=6))
def test_text_with_surrogates_comes_back_or_is_refused(value: str) -> None:
    try:
        text = encode_json([value], what="value")
    except PayloadError as error:
        assert "surrogates would merge" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert decode_json(text) == [value]


@pytest.mark.parametrize(
    "value",
    ["\x00", "\ud800", {"\udfff": 1}, "é😀\u2028", 2**63, -(10**400), 10**4299, 5e-324, 1.7976931348623157e308, 0.1],
    ids=short,
)
def test_hard_values_come_back_as_they_were(value: Any) -> None:
    text = encode_json(value, what="value")

    assert text.isascii()
    assert decode_json(text) == value


def test_negative_zero_keeps_its_sign() -> None:
    back = decode_json(encode_json({"a": -0.0}, what="value"))

    assert math.copysign(1, back["a"]) == -1


def test_a_tuple_comes_back_as_a_list() -> None:
    text = encode_json({"pair": (1, (2, "x"))}, what="value")

    assert decode_json(text) == {"pair": [1, [2, "x"]]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "Cannot store metadata: nan has no JSON form"),
        ({"a": [1, {"b": math.inf}]}, "Cannot store metadata: a[1].b: inf has no JSON form"),
        ([-math.inf], "Cannot store metadata: [0]: -inf has no JSON form"),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, "Cannot store metadata: when: datetime is not a JSON value"),
        ({"price": Decimal("1.1")}, "Cannot store metadata: price: Decimal is not a JSON value"),
        ({"raw": b"x"}, "Cannot store metadata: raw: bytes is not a JSON value"),
        ({"ids": {1}}, "Cannot store metadata: ids: set is not a JSON value"),
        ({"f": [print]}, "Cannot store metadata: f[0]: builtin_function_or_method is not a JSON value"),
        ({"n": 10**4300}, "Cannot store metadata: n: the integer has more than 4,300 digits"),
        ({"a": {1: "x", "1": "y"}}, "Cannot store metadata: a: the key 1 is int, not a string"),
        ({None: "x"}, "Cannot store metadata: the key None is NoneType, not a string"),
        (["\ud83d\ude00"], "Cannot store metadata: [0]: two separate surrogates would merge into one character"),
    ],
    ids=short,
)
def test_what_json_cannot_keep_is_refused_with_its_path(value: object, message: str) -> None:
    assert refusal(value) == message


def test_a_value_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {"a": []}
    value["a"].append(value)

    assert refusal(value) == "Cannot store metadata: a[0]: the value contains itself"


def test_the_same_value_twice_is_no_cycle() -> None:
    shared = (1,)

    assert encode_json([shared, shared], what="value") == "[[1],[1]]"


@pytest.mark.parametrize("wrap", ["list", "object", "both"])
def test_two_hundred_levels_are_the_deepest(wrap: str) -> None:
    text = encode_json(nested(MAX_DEPTH, wrap=wrap), what="value")

    assert decode_json(compose_object({"part": text})) == {"part": nested(MAX_DEPTH, wrap=wrap)}
    assert not is_too_deep(text)
    assert "nested deeper than 200 levels" in refusal(nested(MAX_DEPTH + 1, wrap=wrap))


def test_far_too_deep_values_are_refused_with_a_short_path() -> None:
    message = refusal(nested(100_000))

    assert "nested deeper than 200 levels" in message
    assert len(message) < 300


@pytest.mark.parametrize("wrap", ["list", "object", "both"])
def test_too_deep_text_is_recognized(wrap: str) -> None:
    text = json.dumps(nested(MAX_DEPTH + 1, wrap=wrap))

    assert is_too_deep(text)


def test_brackets_inside_strings_are_not_depth() -> None:
    text = json.dumps(["[" * 500, "]{" * 500])

    assert not is_too_deep(text)


def test_many_shallow_values_are_not_deep() -> None:
    text = json.dumps([{"tags": ["a"]}] * 500)

    assert not is_too_deep(text)


def test_the_size_limit_names_both_sizes() -> None:
    assert encode_json("x" * 8, what="value", max_bytes=10) == '"xxxxxxxx"'
    assert refusal("x" * 1998, max_bytes=1024) == "metadata is 2,000 bytes of JSON; at most 1,024 are allowed"


def test_escapes_count_towards_the_size() -> None:
    assert "12 bytes" not in refusal("é" * 3, max_bytes=8)
    assert "20 bytes" in refusal("é" * 3, max_bytes=8)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "{'a': 1}", "1 2", "[" * 100_000])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(PayloadError, match="Stored text is not JSON"):
        decode_json(text)


def test_an_object_is_composed_of_texts_without_parsing_them() -> None:
    text = compose_object({"a": "[1]", 'quo"te\u2028': '"\\ud800"', "b": "null"})

    assert text.isascii()
    assert decode_json(text) == {"a": [1], 'quo"te\u2028': "\ud800", "b": None}
    assert compose_object({}) == "{}"
