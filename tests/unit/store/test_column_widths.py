"""What callers may pass fits the columns that it goes to, to the character."""

from __future__ import annotations

from typing import Any

import pytest

from workflow_engine.arguments import LONGEST_IDEMPOTENCY_KEY
from workflow_engine.definition.contexts import annotations as annotation_keys
from workflow_engine.definition.contexts.storage import MAX_KEY_LENGTH
from workflow_engine.facade import argument_checks
from workflow_engine.store.reads import run_metadata as searching
from workflow_engine.store.schema.tables import artifacts, run_annotations, run_metadata, runs, stages

COLUMNS: list[tuple[Any, int]] = [
    (run_metadata.c.key, searching.LONGEST_KEY),
    (run_metadata.c.value, searching._LONGEST_TEXT),
    (runs.c.idempotency_key, LONGEST_IDEMPOTENCY_KEY),
    (run_annotations.c.idempotency_key, LONGEST_IDEMPOTENCY_KEY),
    (run_annotations.c.key, annotation_keys._LONGEST_KEY),
    (run_annotations.c.actor, argument_checks._LONGEST_ACTOR),
    (artifacts.c.key, MAX_KEY_LENGTH),
]


@pytest.mark.parametrize(("column", "longest"), COLUMNS, ids=str)
def test_the_longest_text_that_is_accepted_fits_the_column(column: Any, longest: int) -> None:
    assert column.type.length == longest


@pytest.mark.parametrize("column", [runs.c.workflow_id, stages.c.stage_id], ids=str)
def test_the_longest_id_of_a_workflow_or_stage_fits_the_column(column: Any) -> None:
    assert column.type.length >= 100
