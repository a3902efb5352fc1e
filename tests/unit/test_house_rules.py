"""Rules of the house that no linter knows. Each has a planted offence beside it, so that a rule that sleeps is seen."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import workflow_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "workflow_engine"
MAX_FILE_LINES = 400
MAX_BODY_LINES = 40
MAX_EXPORTS = 30
MAX_MODULES = 16

#: Numbers in the name of a test that are a place in a document: ``test_8_04_siblings_…``, ``test_section_3_…``.
NAMES_A_PLACE = re.compile(r"^test_\d|_(?:section|point|issue|task|paragraph|chapter)_\d|_\d{1,2}_\d{2}_")

#: A status in the SET list of an UPDATE (not in its FROM or WHERE).
SETS_STATUS = re.compile(r"\bset\b(?:(?!\b(?:from|where|returning)\b).)*?\bstatus\s*=", re.IGNORECASE | re.DOTALL)

#: The files of ``store/moves`` that write a status: the arrows, the rows that are new, and PostgreSQL's statements.
STATUS_WRITERS = {"new_rows.py", "postgres.py", "run_moves.py", "stage_moves.py"}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def sources(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def written_by_hand(*folders: Path) -> list[Path]:
    return [path for path in sources(*folders) if path.parent != PACKAGE / "store" / "migrations" / "versions"]


def docstrings(tree: ast.Module) -> set[int]:
    holders = (ast.Module, ast.ClassDef, *FUNCTIONS)
    bodies = [
        node.body for node in ast.walk(tree) if isinstance(node, holders) and ast.get_docstring(node, clean=False)
    ]
    return {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}


def is_status_key(node: ast.AST | None) -> bool:
    return (isinstance(node, ast.Constant) and node.value == "status") or (
        isinstance(node, ast.Attribute) and node.attr == "status"
    )


def assigns_status(node: ast.AST) -> bool:
    """Whether a statement of SQLAlchemy, a dictionary of column values or an attribute gets a status here."""
    match node:
        case ast.Attribute(attr="status", ctx=ast.Store()):
            return True
        case ast.Subscript(slice=key, ctx=ast.Store()):
            return is_status_key(key)
        case ast.Dict(keys=keys):
            return any(map(is_status_key, keys))
        case ast.Call(func=ast.Attribute(attr="values" | "update" | "change") | ast.Name(id="dict"), keywords=keywords):
            return any(keyword.arg == "status" for keyword in keywords)
    return False


def find_status_assignments(tree: ast.Module) -> Iterator[int]:
    prose = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            if SETS_STATUS.search(node.value):
                yield node.lineno
        elif assigns_status(node):
            yield getattr(node, "lineno", 0)


def find_long_functions(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > MAX_BODY_LINES:
                yield node.lineno


def find_sleeps(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr="sleep"):
                yield node.lineno
            case ast.ImportFrom(module="time", names=names) if any(name.name == "sleep" for name in names):
                yield node.lineno


def find_unsafe_logging(tree: ast.Module) -> Iterator[int]:
    """Find errors that are logged with whatever their message quotes of a database's rows and statements."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            told = next((keyword.value for keyword in node.keywords if keyword.arg == "exc_info"), None)
            is_safe = told is not None and ast.unparse(told).startswith(("loggable(", "failure.exc_info"))
            if (told is not None or node.func.attr == "exception") and not is_safe:
                yield node.lineno


def find_missing_docstring(tree: ast.Module) -> Iterator[int]:
    if tree.body and not ast.get_docstring(tree):
        yield 1


def offences(rule: Callable[[ast.Module], Iterator[int]], paths: list[Path]) -> list[str]:
    found = [(path, line) for path in paths for line in rule(ast.parse(path.read_text(encoding="utf-8")))]
    return [f"{path.relative_to(ROOT)}:{line}" for path, line in found]


def may_write_status(path: Path) -> bool:
    return path.parent == PACKAGE / "store" / "moves" and path.name in STATUS_WRITERS


def test_a_status_is_written_in_the_moves_only() -> None:
    rooms = [path for path in sources(PACKAGE / "store", PACKAGE / "engine") if not may_write_status(path)]

    assert offences(find_status_assignments, rooms) == []


@pytest.mark.parametrize("name", sorted(STATUS_WRITERS))
def test_each_writer_of_a_status_is_seen_to_write_one(name: str) -> None:
    assert offences(find_status_assignments, [PACKAGE / "store" / "moves" / name]) != []


def find_changes_of_columns(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="change")):
                yield node.lineno


def test_only_the_moves_change_columns_by_name() -> None:
    others = [path for path in sources(PACKAGE) if path.parent != PACKAGE / "store" / "moves"]

    assert offences(find_changes_of_columns, others) == []


def test_a_change_of_columns_elsewhere_is_found() -> None:
    assert list(find_changes_of_columns(ast.parse("run.change(remaining=0)"))) == [1]


@pytest.mark.parametrize(
    "planted",
    [
        "run.status = 'FAILED'",
        "values['status'] = 'FAILED'",
        "update(runs).values(status='FAILED')",
        "run.change(status=RunStatus.FAILED)",
        "update(runs).values({runs.c.status: 'FAILED'})",
        "connection.execute(insert(stages), [{'id': 1, 'status': 'PENDING'}])",
        "text('UPDATE workflow_runs SET error = 1, status = :status WHERE id = :id')",
        "text('''UPDATE workflow_stages AS s\\nSET fence = fence + 1,\\n    status = 'PENDING\\' ''')",
    ],
)
def test_a_status_written_elsewhere_is_found(planted: str) -> None:
    assert list(find_status_assignments(ast.parse(planted))) == [1]


@pytest.mark.parametrize(
    "innocent",
    [
        "'''Never SET x = 1, status = 2.'''",
        "text('UPDATE workflow_runs SET paused_at = 1 WHERE status = :status')",
        "select(runs).where(runs.c.status == 'FAILED')",
        "record = RunRecord(status='FAILED')",
        "is_done = run.status in TERMINAL",
    ],
)
def test_reading_a_status_is_no_offence(innocent: str) -> None:
    assert list(find_status_assignments(ast.parse(innocent))) == []


def test_exports_are_what_all_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [for_checkers] = [node for node in tree.body if isinstance(node, ast.If)]
    imported = [alias.name for node in for_checkers.body if isinstance(node, ast.ImportFrom) for alias in node.names]

    assert sorted(imported) == workflow_engine.__all__ == sorted(dir(workflow_engine))
    assert len(workflow_engine.__all__) <= MAX_EXPORTS


@pytest.mark.parametrize("name", workflow_engine.__all__)
def test_every_export_is_found_where_type_checkers_look(name: str) -> None:
    value = getattr(workflow_engine, name)

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    places = {
        node.module: [alias.name for alias in node.names] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    [module] = [module for module, names in places.items() if name in names]
    assert module is not None
    assert getattr(importlib.import_module(module), name) is value


def test_a_name_that_is_not_exported_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Databases'"):
        _ = workflow_engine.Databases


def test_importing_the_package_is_cheap() -> None:
    heavy = "celery", "kombu", "redis", "sqlalchemy", "alembic", "pydantic"
    check = f"import sys, workflow_engine; print([name for name in {heavy} if name in sys.modules])"

    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_a_runtime_imports_celery_only_when_it_sends_something() -> None:
    check = (
        "import sys; from workflow_engine import WorkflowRuntime; r = WorkflowRuntime(database_url='sqlite://'); "
        "r.list_runs(); r.close(); print('celery' in sys.modules)"
    )

    found = subprocess.run([sys.executable, "-W", "error", "-c", check], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "False"


def test_the_wheel_is_the_package_alone_and_the_source_archive_has_the_examples_that_tests_use() -> None:
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]

    assert targets["wheel"] == {"packages": ["workflow_engine"]}
    assert {"/workflow_engine", "/examples", "/tests", "/docs", "/scripts"} <= set(targets["sdist"]["include"])
    assert sources(PACKAGE / "demo") == []


def test_no_file_is_longer_than_a_reader_likes() -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in written_by_hand(PACKAGE, ROOT / "tests")}

    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


def crowded(folder: Path) -> dict[str, int]:
    """Folders that hold more modules than a reader takes in at a glance, with their number."""
    counts = Counter(str(path.parent.relative_to(folder)) for path in sources(folder))
    return {name: count for name, count in counts.items() if count > MAX_MODULES}


def test_no_room_has_more_modules_than_a_reader_takes_in_at_a_glance() -> None:
    assert crowded(PACKAGE) == {}


def test_a_crowded_room_is_found(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    for number in range(MAX_MODULES + 1):
        (room / f"module_{number}.py").touch()

    assert crowded(tmp_path) == {"room": MAX_MODULES + 1}


def test_tests_are_called_by_behaviours_and_not_by_places_in_a_document() -> None:
    names = [
        f"{path.name}::{node.name}"
        for path in sources(ROOT / "tests")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, FUNCTIONS) and NAMES_A_PLACE.search(node.name)
    ]

    assert names == []


@pytest.mark.parametrize("planted", ["test_8_04_siblings_keep_their_outputs", "test_it_is_as_section_3_says"])
def test_a_test_that_is_called_by_a_place_is_found(planted: str) -> None:
    assert NAMES_A_PLACE.search(planted)


def test_no_function_is_longer_than_a_screen() -> None:
    assert offences(find_long_functions, written_by_hand(PACKAGE)) == []


def test_a_long_function_is_found_and_its_docstring_is_not_counted() -> None:
    statements = ["    pass"] * MAX_BODY_LINES

    fits = ast.parse("\n".join(["def f():", '    """Do."""', *statements]))
    exceeds = ast.parse("\n".join(["def f():", '    """Do."""', *statements, "    pass"]))

    assert (list(find_long_functions(fits)), list(find_long_functions(exceeds))) == ([], [1])


def test_every_module_says_what_it_is_for() -> None:
    assert offences(find_missing_docstring, sources(PACKAGE)) == []


def test_a_module_without_docstring_is_found() -> None:
    assert list(find_missing_docstring(ast.parse("x = 1"))) == [1]


def test_nobody_sleeps() -> None:
    assert offences(find_sleeps, sources(PACKAGE, ROOT / "tests")) == []


@pytest.mark.parametrize("planted", ["time.sleep(1)", "from time import sleep"])
def test_a_sleep_is_found(planted: str) -> None:
    assert list(find_sleeps(ast.parse(planted))) == [1]


def test_errors_are_logged_without_the_texts_of_a_database() -> None:
    assert offences(find_unsafe_logging, written_by_hand(PACKAGE)) == []


@pytest.mark.parametrize(
    "planted", ["logger.exception('x')", "logger.error('x', exc_info=True)", "logger.warning('x', exc_info=error)"]
)
def test_an_error_logged_as_it_is_is_found(planted: str) -> None:
    assert list(find_unsafe_logging(ast.parse(planted))) == [1]
