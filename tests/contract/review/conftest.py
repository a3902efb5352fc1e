"""The engine on each database, as in ``tests/contract/engine``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.testing.kit import WorkflowTester

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def start(database_url: str) -> Iterator[Callable[..., WorkflowTester]]:
    """Start a tester of the given workflows on the test's own database; options are settings."""
    started: list[WorkflowTester] = []

    def make(*workflows: Any, **options: Any) -> WorkflowTester:
        started.append(WorkflowTester(workflows, database_url=database_url, check=True, **options))
        return started[-1]

    yield make
    for tester in started:
        tester.assert_consistent()
        tester.close()
