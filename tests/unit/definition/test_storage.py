"""Artifacts: typed values under relative keys, of the stage or of the run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_engine.definition import StageStorage
from workflow_engine.errors import ArtifactNotFoundError, InvalidDataError, PayloadError


class Page(BaseModel):
    number: int


@dataclass
class Box:
    width: float


@pytest.fixture
def storage(port: Any) -> StageStorage:
    return StageStorage(port)


@pytest.mark.parametrize("value", [None, 0, "", [1, {"a": "\x00"}], {"a": False}], ids=repr)
def test_a_saved_value_is_loaded(storage: StageStorage, value: object) -> None:
    storage.save("pages/1.json", value)

    assert storage.load("pages/1.json") == value
    assert storage.exists("pages/1.json")


def test_models_and_dataclasses_are_loaded_by_type(storage: StageStorage) -> None:
    storage.save("page", Page(number=3))
    storage.save("box", Box(width=1.5))

    assert storage.load("page", Page) == Page(number=3)
    assert storage.load("box", Box) == Box(width=1.5)
    assert storage.load("page") == {"number": 3}


def test_a_value_of_another_type_is_refused_on_load(storage: StageStorage) -> None:
    storage.save("page", {"number": "many"})

    with pytest.raises(InvalidDataError, match='Invalid artifact "page": number'):
        storage.load("page", Page)


def test_a_missing_artifact_is_an_error(storage: StageStorage) -> None:
    with pytest.raises(ArtifactNotFoundError, match="'page'"):
        storage.load("page")
    assert not storage.exists("page")


def test_a_changed_model_is_refused(storage: StageStorage, port: Any) -> None:
    page = Page(number=1)
    page.number = "many"  # type: ignore[assignment] # the mistake

    with pytest.raises(InvalidDataError, match="number"):
        storage.save("page", page)
    assert port.artifacts == {}


def test_a_value_that_is_not_json_is_refused(storage: StageStorage) -> None:
    with pytest.raises(PayloadError, match='artifact "x": a: nan'):
        storage.save("x", {"a": math.nan})


def test_deleting_tells_whether_it_was_there(storage: StageStorage) -> None:
    storage.save("page", 1)

    assert storage.delete("page")
    assert not storage.delete("page")


def test_the_shared_scope_is_another_one(storage: StageStorage) -> None:
    storage.save("page", "mine")
    storage.shared.save("page", "ours")

    assert storage.load("page") == "mine"
    assert storage.shared.load("page") == "ours"
    assert storage.shared.list() == ["page"]
    assert storage.shared.delete("page")
    assert storage.exists("page")
    assert not storage.shared.exists("page")


def test_keys_are_listed_by_prefix(storage: StageStorage) -> None:
    for key in ("pages/2", "pages/1", "other"):
        storage.save(key, 1)

    assert storage.list() == ["other", "pages/1", "pages/2"]
    assert storage.list("pages/") == ["pages/1", "pages/2"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../x",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "~/x",
        "C:/x",
        "c:x",
        "a\\b",
        "..\\x",
        "a\x00b",
        "a\nb",
        "a\ud800",
        "x" * 513,
    ],
    ids=ascii,
)
def test_keys_that_lead_elsewhere_are_refused(storage: StageStorage, port: Any, key: str) -> None:
    with pytest.raises(ValueError, match="artifact key"):
        storage.save(key, 1)
    with pytest.raises(ValueError, match="artifact key"):
        storage.load(key)
    with pytest.raises(ValueError, match="artifact key"):
        storage.exists(key)
    with pytest.raises(ValueError, match="artifact key"):
        storage.delete(key)
    assert port.artifacts == {}


def test_prefixes_that_lead_elsewhere_are_refused(storage: StageStorage) -> None:
    with pytest.raises(ValueError, match="artifact key"):
        storage.list("../")


@pytest.mark.parametrize("key", ["a", "x" * 512, "a/b.c/d-e_f", "..a", "é", "a b", "1"], ids=ascii)
def test_ordinary_keys_are_taken(storage: StageStorage, key: str) -> None:
    storage.save(key, 1)

    assert storage.list() == [key]


def test_a_key_is_a_string(storage: StageStorage) -> None:
    with pytest.raises(TypeError, match="must be a string, not int"):
        storage.save(3, 1)  # type: ignore[arg-type] # the mistake
