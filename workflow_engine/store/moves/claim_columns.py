"""Where a claim's values come from: the fields of ``Claim`` are the one list of what a claim reads."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from sqlalchemy import case

from workflow_engine.store.records import Claim

if TYPE_CHECKING:
    import sqlalchemy as sa

#: What the claim's form knows by itself, and what is read from other tables.
_NOT_COLUMNS: Final = {"kind", "outputs"}


def claim_columns(stage: sa.FromClause, run: sa.FromClause) -> list[sa.ColumnElement[object]]:
    """Return the labelled columns of a claim: the stage run's column of a field's name, or else its run's.

    ``stage`` and ``run`` are whatever has the columns of the two tables: the tables, or the parts of a statement.
    """
    special: dict[str, sa.ColumnElement[object]] = {
        "stage_run_id": stage.c.id,
        "run_input": case((stage.c.input_group == 0, run.c.input)),
    }
    names = [field.name for field in fields(Claim) if field.name not in _NOT_COLUMNS]
    found = {name: stage.c[name] if name in stage.c else run.c[name] for name in names if name not in special}
    return [(special | found)[name].label(name) for name in names]
