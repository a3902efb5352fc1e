"""The group of all commands: it imports a command when it is used."""

from __future__ import annotations

import subprocess
import sys


def test_help_imports_nothing_that_takes_long() -> None:
    heavy = "celery", "kombu", "redis", "sqlalchemy", "alembic", "pydantic"
    check = (
        "import sys; from workflow_engine.cli.main import cli; cli.main(['--help'], standalone_mode=False); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert "Commands:" in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"
