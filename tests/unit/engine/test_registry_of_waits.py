"""Every kind of wait is there in each of its places."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import workflow_engine
from workflow_engine.definition import waits as values
from workflow_engine.engine import waits as kinds
from workflow_engine.engine.waits.registry import KINDS
from workflow_engine.engine.waits.wait_kind import WaitKind
from workflow_engine.store.schema.tables import stages

ROOT = Path(workflow_engine.__file__).parents[1]
WAITS = [value for value in vars(values).values() if isinstance(value, type) and issubclass(value, values.Wait)]
#: Texts that are also names of other things; comparing with them is how a kind would be told apart by hand.
TEXTS = {wait.kind for wait in WAITS if wait is not values.Wait}


def find_comparisons(tree: ast.AST) -> list[int]:
    """Find comparisons with the stored text of a kind, in place of a question to the kind."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    return [
        node.lineno
        for node in found
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in TEXTS
    ]


def test_every_value_has_one_kind_in_the_registry() -> None:
    assert {kind.wait for kind in KINDS.values()} == {*WAITS} - {values.Wait}
    assert {stored: kind.wait.kind for stored, kind in KINDS.items()} == {text: text for text in TEXTS}


def test_every_kind_of_the_room_is_in_the_registry() -> None:
    for module in pkgutil.iter_modules(kinds.__path__):
        importlib.import_module(f"{kinds.__name__}.{module.name}")
    made: list[Any] = [kind for kind in WaitKind.__subclasses__() if kind.__module__.startswith(kinds.__name__)]

    assert {type(kind) for kind in KINDS.values()} == {*made}


@pytest.mark.parametrize("stored", KINDS)
def test_the_stored_text_fits_its_column(stored: str) -> None:
    assert 0 < len(stored) <= stages.c.suspended_on.type.length


def test_the_stored_texts_are_those_of_the_releases_before() -> None:
    assert {"poll", "runs"} <= KINDS.keys()


def test_the_semantics_page_tells_of_every_kind() -> None:
    page = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")

    assert {*re.findall(r"^\| `(\w+)` \| `Suspend", page, re.MULTILINE)} == KINDS.keys()


def test_no_kind_is_told_apart_by_its_text() -> None:
    paths = sorted((ROOT / "workflow_engine").rglob("*.py"))

    assert [str(path) for path in paths if find_comparisons(ast.parse(path.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize("planted", ["claim.suspended_on == 'poll'", "on in ('poll', 'signal')", "'runs' != waits.on"])
def test_a_kind_told_apart_by_its_text_is_found(planted: str) -> None:
    assert find_comparisons(ast.parse(planted)) == [1]
