"""Write the initial revision of the schema from ``store/tables.py``.

Until the first release there is one revision, and a change of the tables is followed by::

    python scripts/write_initial_revision.py

Databases made before then are thrown away. After the release the file is history: a change is a new revision, and
this script goes.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import groupby
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations.ops import MigrateOperation, UpgradeOps

from workflow_engine.store.schema import MIGRATION_OPTIONS
from workflow_engine.store.tables import metadata
from workflow_engine.store.types import Id, Label

TARGET = Path(__file__).parents[1] / "workflow_engine/store/migrations/versions/0001_initial.py"

HEADER = '''"""The initial schema; written by scripts/write_initial_revision.py."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: The authority's clock, in milliseconds. SQLite has it from each connection (store/database.py).
_WORKFLOW_NOW = """
CREATE FUNCTION workflow_now() RETURNS bigint LANGUAGE sql VOLATILE
AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint'
"""
_HAS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
#: Large JSON texts that are written once: lz4 compresses them several times faster than the default.
_LARGE = (
    ("workflow_runs", "input"),
    ("workflow_outputs", "payload"),
    ("workflow_artifacts", "payload"),
)


def upgrade() -> None:
    is_postgres = op.get_bind().dialect.name == "postgresql"
    if is_postgres:
        op.execute(_WORKFLOW_NOW)
    {calls}
    if is_postgres and op.get_bind().scalar(sa.text(_HAS_LZ4)):
        for table, column in _LARGE:
            op.execute(f"ALTER TABLE {{table}} ALTER COLUMN {{column}} SET COMPRESSION lz4")
'''


def main() -> None:
    """Render, format, write."""
    functions = {name: _render(steps) for name, steps in groupby(_steps(), key=lambda step: step.table_name)}
    text = HEADER.format(calls="\n    ".join(f"_create_{name}()" for name in functions))
    for name, body in functions.items():
        text += f"\n\ndef _create_{name}() -> None:\n    {body}\n"
    TARGET.write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", TARGET], check=True)  # noqa: S603 - constants


def _steps() -> list[MigrateOperation]:
    """Return what creates every table, each followed by its indexes."""
    with sa.create_engine("sqlite://").connect() as connection:
        context = MigrationContext.configure(connection, opts=MIGRATION_OPTIONS)
        operations = produce_migrations(context, metadata).upgrade_ops
    assert operations is not None  # noqa: S101 - for type checkers
    return operations.ops


def _render(steps: object) -> str:
    code = render_python_code(UpgradeOps(ops=list(steps)), render_as_batch=False, render_item=_render_type)
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("# ###")).strip()


def _render_type(kind: str, item: object, _context: object) -> str | bool:
    """Render our own type as what it is in the database: revisions do not depend on the package's code."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, Id | Label) else False


if __name__ == "__main__":
    main()
