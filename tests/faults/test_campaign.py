"""A short fault campaign: real processes, a drawn seed, every promise checked during and after it."""

from __future__ import annotations

import os
import secrets
from datetime import timedelta

import pytest

from tests.effort import EFFORT
from tests.faults.campaign import Plan, conduct, describe

#: Repeats the choices of an earlier campaign.
SEED_VARIABLE = "WORKFLOW_ENGINE_FAULT_SEED"


@pytest.mark.long(60)
@pytest.mark.timeout(400 * EFFORT)
def test_nothing_is_lost_in_a_short_campaign(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get(SEED_VARIABLE) or secrets.randbelow(2**31))

    result = conduct(Plan(seed, timedelta(seconds=20 * EFFORT)))

    with capsys.disabled():
        print(f"\n{describe(result)}")
    assert result.problems == []
    assert result.injected.total() > 3
    assert result.figures["runs"] > 10
