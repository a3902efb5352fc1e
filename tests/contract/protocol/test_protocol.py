"""The engine agrees with the model of its protocol, whatever happens in whatever order."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from protocol_machine import GATE_SEEDS, explore, machine_on

if TYPE_CHECKING:
    from protocol_world import FaultyDatabase

#: 1 for the gate; more explores that many times as much, from somewhere else each time: 100 for a night.
EFFORT = int(os.environ.get("WORKFLOW_ENGINE_PROTOCOL_EFFORT", "1"))
FIRST_SEED = GATE_SEEDS.start if EFFORT == 1 else random.randrange(10**6)  # noqa: S311 - a place to begin


@pytest.mark.timeout(900 * EFFORT)
def test_the_engine_on_sqlite_agrees_with_the_model(faulty_sqlite: FaultyDatabase) -> None:
    explore(machine_on(faulty_sqlite), seeds=range(FIRST_SEED, FIRST_SEED + EFFORT * len(GATE_SEEDS)))


@pytest.mark.timeout(900 * EFFORT)
def test_the_engine_on_postgres_agrees_with_the_model(faulty_postgres: FaultyDatabase) -> None:
    explore(machine_on(faulty_postgres), seeds=range(FIRST_SEED, FIRST_SEED + 2 * EFFORT))
