"""Runs that an earlier release created go on with the definitions of this one: their fingerprints are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
RELEASE = next((ROOT / "tests" / "releases").glob("celery_workflow_engine-0.1.0-*.whl"))

PRINT = """
from workflow_engine import definition as d

classes = [getattr(d, name) for name in sorted(set(d.__all__) & {
    "AIConfig", "ConcurrencyConfig", "DebugConfig", "FeatureFlagsConfig", "StageConfig", "StandardConfig",
    "GroupOutput", "GroupFailurePolicy", "NoConfig", "NoInput",
})]
for tp in classes:
    for output in (tp, tp | None, list[tp], dict[str, list[tp]]):
        stage = d.define_stage(id="x", execute=lambda ctx: None, input=dict, output=output, config=d.AIConfig)
        print(tp.__name__, stage.fingerprint)
"""


def fingerprints(path: Path) -> list[str]:
    """Return the fingerprints of stages whose schemas name classes of the library at that path."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    printed = subprocess.run(
        [sys.executable, "-c", PRINT], env=environment, capture_output=True, text=True, check=True, cwd=path.parent
    )
    return printed.stdout.splitlines()


def test_a_stage_has_the_fingerprint_of_release_0_1_0_wherever_the_classes_of_the_library_are_now() -> None:
    now, then = fingerprints(ROOT), fingerprints(RELEASE)

    assert len(then) == 40
    assert now == then
