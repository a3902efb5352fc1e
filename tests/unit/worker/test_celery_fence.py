"""Whatever the worker overrides, reads or imports beside the public interface of Celery, kombu and redis is listed."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery.worker.request import Request

from tests.unit.worker.test_celery_insides import INSIDES, PACKAGES, Inside, is_set_by_methods, is_theirs
from workflow_engine import worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

WORKER = Path(worker.__file__).parent

#: Modules of theirs whose names are documented for users.
PUBLIC_MODULES = frozenset(
    {
        "amqp.exceptions",
        "billiard",
        "celery",
        "celery.app",
        "celery.apps.worker",
        "celery.beat",
        "celery.exceptions",
        "celery.worker",
        "celery.worker.request",
        "kombu",
        "kombu.exceptions",
        "kombu.message",
        "kombu.transport",
        "kombu.utils.encoding",
        "kombu.utils.url",
        "redis",
    }
)


def modules() -> Iterator[tuple[Any, ast.Module]]:
    for found in pkgutil.walk_packages([str(WORKER)], "workflow_engine.worker."):
        if found.name.endswith((".current_app", ".standalone")):
            continue  # importing them makes apps of the environment; they are a line each
        module = importlib.import_module(found.name)
        yield module, ast.parse(inspect.getsource(module))


#: What abstract classes and protocols have besides what is written in them.
ADDED_BY_PYTHON = {"_abc_impl", "_is_protocol"}


def find_overrides(module: Any, tree: ast.Module) -> Iterator[str]:
    """Find what the classes of a module override of theirs: in the class, or by storing it in the instance."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            cls = getattr(module, node.name)
            stored = {part.attr for part in ast.walk(node) if is_of_self(part) and isinstance(part.ctx, ast.Store)}
            for name in {*vars(cls), *stored} - ADDED_BY_PYTHON:
                yield from itertools.islice(find_owners(cls, name, is_stored=name in stored), 1)


def find_owners(cls: type, name: str, *, is_stored: bool) -> Iterator[str]:
    for base in cls.__mro__:
        path = f"{base.__module__}:{base.__name__}.{name}"
        is_inherited = name in vars(base) or (is_stored and is_theirs(base) and is_set_by_methods(path))
        if is_theirs(base) and is_inherited and not name.startswith("__"):
            yield path


def find_methods(tree: ast.AST) -> set[str]:
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def find_private_names(tree: ast.AST, inherited: Collection[str] = ()) -> Iterator[str]:
    """Find names with an underscore that are read of other objects than the worker's own."""
    nodes = list(ast.walk(tree))
    own = {node.attr for node in nodes if is_of_self(node) and isinstance(node.ctx, ast.Store)}
    own |= {*find_methods(tree), *inherited}
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id="os")):
                continue
            case ast.Attribute(attr=name) if not (is_of_self(node) and name in own):
                pass
            case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=name), *_]):
                pass
            case ast.Subscript(value=ast.Attribute(attr="__dict__"), slice=ast.Constant(value=name)):
                pass
            case _:
                continue
        if isinstance(name, str) and name.startswith("_") and not name.startswith("__"):
            yield name


def is_of_self(node: ast.AST) -> Any:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def find_undocumented_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                imported = [f"{module}:{name.name}" for name in names]
            case ast.Import(names=names):
                imported = [f"{name.name}:" for name in names]
            case _:
                continue
        for path in imported:
            module = path.partition(":")[0]
            if module.partition(".")[0] in PACKAGES and module not in PUBLIC_MODULES:
                yield path


LISTED_PATHS = {inside.path for inside in INSIDES}
LISTED_NAMES = {path.rpartition(".")[2] for path in LISTED_PATHS}


def test_whatever_the_worker_overrides_is_listed() -> None:
    found = {path for module, tree in modules() for path in find_overrides(module, tree)}

    assert sorted(found - LISTED_PATHS) == []


def test_whatever_private_name_the_worker_reads_is_listed() -> None:
    trees = list(modules())
    methods = {name for _, tree in trees for name in find_methods(tree)}

    found = {(module.__name__, name) for module, tree in trees for name in find_private_names(tree, methods)}

    assert sorted((module, name) for module, name in found if name not in LISTED_NAMES) == []


def test_whatever_undocumented_name_the_worker_imports_is_listed() -> None:
    found = {path for _, tree in modules() for path in find_undocumented_imports(tree)}

    assert sorted(found - LISTED_PATHS) == []


def test_a_planted_override_is_found() -> None:
    class Planted(Request):
        def _announce_revoked(self) -> None: ...

        def store(self) -> None:
            self._decoded = True

    namespace = SimpleNamespace(Planted=Planted)
    tree = ast.parse(
        "class Planted(Request):\n    def _announce_revoked(self): ...\n    def store(self): self._decoded = True"
    )

    assert set(find_overrides(namespace, tree)) == {
        "celery.worker.request:Request._announce_revoked",
        "celery.worker.request:Request._decoded",
    }


@pytest.mark.parametrize(
    "planted",
    [
        "consumer._restart_state.step()",
        "self._restart_state.step()",
        "getattr(consumer, '_restart_state', None)",
        "consumer.__dict__['_restart_state']",
        "class Own:\n    def _restart_state(self): ...\nconsumer._restart_state()",
    ],
)
def test_a_planted_use_of_a_private_name_is_found(planted: str) -> None:
    assert set(find_private_names(ast.parse(planted))) == {"_restart_state"}


def test_a_module_s_own_private_names_are_its_own() -> None:
    own = "class Own:\n    def __init__(self): self._state = 1\n    def _read(self): return self._state + self._read()"

    assert list(find_private_names(ast.parse(own))) == []


def test_a_planted_import_of_an_undocumented_module_is_found() -> None:
    planted = "from celery.worker.loops import asynloop\nimport kombu.asynchronous.hub\nfrom kombu import Queue"

    found = list(find_undocumented_imports(ast.parse(planted)))

    assert found == ["celery.worker.loops:asynloop", "kombu.asynchronous.hub:"]


@pytest.mark.parametrize("inside", INSIDES, ids=lambda inside: inside.path)
def test_whatever_is_listed_is_used_where_the_list_says(inside: Inside) -> None:
    name = inside.path.rpartition(".")[2].rpartition(":")[2]

    for file in inside.used_in.split(" and "):
        assert re.search(rf"\b{name}\b", (WORKER / file).read_text(encoding="utf-8"))
