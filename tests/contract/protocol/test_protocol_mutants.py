"""A machine that finds nothing proves nothing: with any one safeguard taken out, it finds that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from protocol_machine import GATE_SEEDS, explore, machine_on
from protocol_mutants import MUTANTS, STUCK
from sqlalchemy.exc import DBAPIError

from workflow_engine.errors import WorkflowEngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from protocol_world import FaultyDatabase

#: A mistake is mostly found by the first of them; what ids and times are drawn decides a little as well.
MORE_SEEDS = range(GATE_SEEDS.start, GATE_SEEDS.start + 5 * len(GATE_SEEDS))
FINDINGS = (AssertionError, WorkflowEngineError, DBAPIError)


@pytest.mark.long(10)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_machine_finds_that(
    mutant: Callable[[], AbstractContextManager[None]],
    faulty_sqlite: FaultyDatabase,
) -> None:
    machine = machine_on(faulty_sqlite, comes_to_rest=mutant in STUCK)

    with mutant(), pytest.raises(FINDINGS) as finding:
        explore(machine, seeds=MORE_SEEDS, shrinks=False)

    where = finding.traceback[-1]
    print(f"example {machine.examples}: {finding.typename} in {where.name}: {where.statement}")  # noqa: T201 - pytest -rP
