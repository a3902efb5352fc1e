"""Every test carries the marker of its tier, which is the folder it lives in."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).parent
TIERS = {"unit", "contract", "integration", "acceptance", "typing", "faults", "benchmarks"}

# A shared machine stalls now and then: an example that takes long is no failure, and pytest-timeout ends what hangs.
hypothesis.settings.register_profile("workflow_engine", deadline=None, print_blob=True)
hypothesis.settings.load_profile("workflow_engine")

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        if tier not in TIERS:
            raise pytest.UsageError(f"{item.nodeid} belongs to no tier; the folders are {', '.join(sorted(TIERS))}")
        item.add_marker(tier)
