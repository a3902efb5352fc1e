"""What tests of workflows need: contexts for one body, a tester for whole runs, real servers as pytest fixtures.

Names are imported when they are first used: the pytest plugin is loaded by every pytest run of an environment.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from workflow_engine.testing.contexts import cancel_context, poll_context, stage_context
    from workflow_engine.testing.kit import WorkflowTester
    from workflow_engine.testing.recorded import Recorded

__all__ = ["Recorded", "WorkflowTester", "cancel_context", "poll_context", "stage_context"]

_MODULES: Final = {"Recorded": "recorded", "WorkflowTester": "kit"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'contexts')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
