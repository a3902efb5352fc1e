"""A claim reads the columns that its fields name, and the engine uses every one of them."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import workflow_engine
from workflow_engine.store.records import Claim, StageRunOptions

PACKAGE = Path(workflow_engine.__file__).parent


def test_a_claim_reads_no_column_that_nobody_uses() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    used = set(re.findall(r"\bclaim\.(\w+)", source))

    assert {field.name for field in fields(Claim)} - {field.name for field in fields(StageRunOptions)} <= used
