"""The engine agrees with the model of its protocol, whatever happens in whatever order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test
from protocol_machine import machine_on

if TYPE_CHECKING:
    from protocol_world import FaultyDatabase

#: Multiplies the examples: 1 for the gate, 100 for a night.
EFFORT = int(os.environ.get("WORKFLOW_ENGINE_PROTOCOL_EFFORT", "1"))


def budget(examples: int, steps: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples * EFFORT,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@pytest.mark.timeout(900)
def test_the_engine_on_sqlite_agrees_with_the_model(faulty_sqlite: FaultyDatabase) -> None:
    run_state_machine_as_test(machine_on(faulty_sqlite), settings=budget(examples=100, steps=30))


@pytest.mark.timeout(900)
def test_the_engine_on_postgres_agrees_with_the_model(faulty_postgres: FaultyDatabase) -> None:
    run_state_machine_as_test(machine_on(faulty_postgres), settings=budget(examples=12, steps=30))
