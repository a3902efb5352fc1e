"""The engine agrees with the model of its protocol, whatever happens in whatever order."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from protocol_machine import explore, machine_on

if TYPE_CHECKING:
    from protocol_world import FaultyDatabase

#: Multiplies the examples, and makes every run start somewhere else: 100 for a night.
EFFORT = int(os.environ.get("WORKFLOW_ENGINE_PROTOCOL_EFFORT", "1"))
#: The gate says the same twice; a longer search begins where none has been.
FIRST_SEED = 1 if EFFORT == 1 else random.randrange(10**6)  # noqa: S311 - a place to begin


@pytest.mark.timeout(300 * EFFORT)
def test_the_engine_on_sqlite_agrees_with_the_model(faulty_sqlite: FaultyDatabase) -> None:
    explore(machine_on(faulty_sqlite), seeds=range(FIRST_SEED, FIRST_SEED + 10 * EFFORT))


@pytest.mark.timeout(300 * EFFORT)
def test_the_engine_on_postgres_agrees_with_the_model(faulty_postgres: FaultyDatabase) -> None:
    explore(machine_on(faulty_postgres), seeds=range(FIRST_SEED, FIRST_SEED + 2 * EFFORT))
