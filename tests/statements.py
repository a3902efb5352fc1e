"""PostgreSQL's one-statement forms, composed anew of rules and tables that a test has changed."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any
from unittest.mock import patch

from workflow_engine.store.moves import postgres


def compose_anew() -> Any:
    """Return a second copy of the statements' module, made of the rules and tables as they are now."""
    spec = spec_from_file_location("statements_composed_anew", postgres.__file__)
    if spec is None or spec.loader is None:
        raise AssertionError("the statements' module is not a file")
    module = module_from_spec(spec)
    with patch.dict(sys.modules, {spec.name: module}):  # dataclasses look up the module that they are made in
        spec.loader.exec_module(module)
    return module
