"""The ablations follow the code: each still finds what it takes away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.ablated import plans
from tests.faults.ablations import ABLATIONS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_finds_what_it_takes_away(name: str) -> None:
    # In a process of its own: what is patched stays patched.
    program = f"from tests.faults.ablations import ABLATIONS; ABLATIONS[{name!r}]()"

    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (finished.returncode, finished.stderr) == (0, "")


def test_each_ablation_has_a_campaign_that_aims_at_it() -> None:
    assert plans(seed=1).keys() == ABLATIONS.keys()
