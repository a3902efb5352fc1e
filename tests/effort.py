"""How much the tests explore: 1 is the gate; ``scripts/nightly`` asks for more examples, longer campaigns, bigger crowds."""

from __future__ import annotations

import os

EFFORT = int(os.environ.get("WORKFLOW_ENGINE_TEST_EFFORT", "1"))
IS_NIGHTLY = EFFORT > 1
