"""The engine agrees with the model of its protocol, whatever happens in whatever order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from protocol_machine import GATE_SEEDS, explore, machine_on

from tests.effort import EFFORT, IS_NIGHTLY

if TYPE_CHECKING:
    from protocol_world import FaultyDatabase

#: The gate says the same twice; a night begins somewhere else each time.
FIRST_SEED = random.randrange(10**6) if IS_NIGHTLY else GATE_SEEDS.start  # noqa: S311 - a place to begin


@pytest.mark.long(60)
@pytest.mark.timeout(900 * EFFORT)
def test_the_engine_on_sqlite_agrees_with_the_model(faulty_sqlite: FaultyDatabase) -> None:
    explore(machine_on(faulty_sqlite), seeds=range(FIRST_SEED, FIRST_SEED + EFFORT * len(GATE_SEEDS)))


@pytest.mark.long(60)
@pytest.mark.timeout(900 * EFFORT)
def test_the_engine_on_postgres_agrees_with_the_model(faulty_postgres: FaultyDatabase) -> None:
    explore(machine_on(faulty_postgres), seeds=range(FIRST_SEED, FIRST_SEED + 2 * EFFORT))
