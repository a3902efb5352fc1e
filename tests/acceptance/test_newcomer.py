"""Five programs of a newcomer, with nothing but exported names: on real workers, Redis and PostgreSQL."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import workflow_engine
from workflow_engine import testing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow_engine.testing.services import PostgresServer

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "newcomer"
#: What each program prints; the first is a module of tests and prints nothing of its own.
PRINTS = {
    "bulk_rerun": """\
FAILED the post office is closed
FAILED the post office is closed
FAILED the post office is closed
3 3 {}
letter 0 is sent ['write', 'send', 'send']
letter 1 is sent ['write', 'send', 'send']
letter 2 is sent ['write', 'send', 'send']
""",
    "child_runs": "8 [1, 2, 3]\n",
    "conditional": """\
500 paid, not insured
['SKIPPED']
50000 paid, insured
['COMPLETED']
""",
    "webhook": """\
['TEXT OF SLOW', 'TEXT OF QUICK']
text of blank
""",
}
#: Modules that a program may import besides the standard library.
ALLOWED = {"workflow_engine": workflow_engine.__all__, "workflow_engine.testing": testing.__all__, "pydantic": None}


@pytest.fixture
def environment(postgres_server: PostgresServer, migrated_postgres: str, redis_url: str) -> Iterator[dict[str, str]]:
    """Where a newcomer's shell has the settings: a database with the tables, a broker, a key for tokens."""
    url = postgres_server.create_database(template=migrated_postgres)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_ENGINE_")}
    yield {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(PROGRAMS)]),
        "WORKFLOW_ENGINE_DATABASE_URL": url,
        "WORKFLOW_ENGINE_BROKER_URL": redis_url,
        "WORKFLOW_ENGINE_SIGNING_KEY": "a key of thirty-two characters..",
    }
    postgres_server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def worker(request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """A worker process for the program's workflows; yields its log."""
    log = tmp_path / "worker.log"
    command = ["-m", "workflow_engine.cli", "worker", "--app", f"{request.param}:workflows", "--concurrency", "2"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
    yield log
    process.terminate()
    process.wait(60)


def run(*arguments: str, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_body_is_tested_without_any_server(tmp_path: Path) -> None:
    printed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(PROGRAMS / "one_body.py"), cwd=tmp_path, env={})

    assert "1 passed" in printed


@pytest.mark.parametrize(
    ("worker", "program"), [(name, name) for name in PRINTS], ids=list(PRINTS), indirect=["worker"]
)
def test_a_program_prints_what_its_author_expects(
    worker: Path, environment: dict[str, str], tmp_path: Path, program: str
) -> None:
    printed = run(str(PROGRAMS / f"{program}.py"), cwd=tmp_path, env=environment)

    assert printed == PRINTS[program], worker.read_text(errors="replace")


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_a_program_imports_exported_names_only(path: Path) -> None:
    assert list(find_other_imports(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import workflow_engine.engine",
        "from workflow_engine.errors import RunFailed",
        "from workflow_engine import engine",
        "from workflow_engine.testing import kit",
        "import sqlalchemy",
    ],
)
def test_an_import_of_something_else_is_found(planted: str) -> None:
    assert len(list(find_other_imports(f"import json\n{planted}\n"))) == 1


def test_there_are_five_programs() -> None:
    assert {path.stem for path in PROGRAMS.glob("*.py")} == {"one_body", *PRINTS}


def find_other_imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if not _is_allowed(alias.name, None))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names if not _is_allowed(module, alias.name))


def _is_allowed(module: str, name: str | None) -> bool:
    if module.partition(".")[0] in sys.stdlib_module_names:
        return True
    exported = ALLOWED.get(module, [])
    return module in ALLOWED and (exported is None or name in exported)
