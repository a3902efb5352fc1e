"""The tests of docs/testing.md, run as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workflow_engine import testing
from workflow_engine.testing import plugin, recorded

if TYPE_CHECKING:
    from workflow_engine.testing.services import PostgresServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def environment(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The PostgreSQL of this session serves the page's tests, too; they may not be skipped."""
    monkeypatch.setenv("WORKFLOW_ENGINE_REQUIRE_SERVICES", "1")
    monkeypatch.setenv("WORKFLOW_ENGINE_TEST_POSTGRES_URL", postgres_server.url())


@pytest.mark.usefixtures("environment")
def test_every_test_of_the_page_passes(tmp_path: Path) -> None:
    (tmp_path / "test_documents.py").write_text("\n".join(BLOCKS), "utf-8")

    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_documents.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    written = len(re.findall(r"^def test_", "\n".join(BLOCKS), re.MULTILINE))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"{written} passed" in finished.stdout


def test_the_page_names_every_export_of_the_package_and_every_fixture_of_the_plugin() -> None:
    fixtures = [name for name, value in vars(plugin).items() if isinstance(value, type(plugin.redis_url))]
    named = {*testing.__all__, *fixtures, *(one.lstrip("_") for one in recorded.Recorded.__dataclass_fields__)}

    assert sorted(name for name in named - {"Recorded"} if not re.search(rf"\b{name}\b", PAGE)) == []
