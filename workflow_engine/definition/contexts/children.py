"""Runs that a stage creates: what it asks for, what it gets, and the key that makes a child one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflow_engine.arguments import LONGEST_IDEMPOTENCY_KEY
from workflow_engine.errors import InvalidDataError
from workflow_engine.payloads.secrets import clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from workflow_engine.definition.workflows.workflow import Workflow


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """A run that user code asks for on behalf of its stage."""

    workflow: Workflow[Any, Any] | str
    input: object
    #: The same in every execution of the stage run.
    idempotency_key: str
    config: Mapping[str, Any] | None = None
    priority: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deadline: datetime | timedelta | None = None
    start_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A run that a stage created; give it to ``Suspend.until_runs`` to wait for it."""

    id: str
    workflow_id: str
    #: False when an earlier execution of the stage had created it.
    is_new: bool


def derive_key(parent_key: str, workflow_id: str, key: object = None) -> str:
    """Return the idempotency key of a child run; ``parent_key`` is that of the stage run.

    Raises:
        InvalidDataError: ``key`` is neither None nor a text.
    """
    if key is not None and (not isinstance(key, str) or not key):
        raise InvalidDataError("key", [f"must be a text that tells the child runs of a stage apart, got {key!r}"])
    full = "/".join((parent_key, workflow_id, *([] if key is None else [key])))
    if len(full) <= LONGEST_IDEMPOTENCY_KEY and full == clean_text(full):
        return full
    return f"{parent_key}/{hashlib.sha256(full.encode('utf-8', 'backslashreplace')).hexdigest()[:32]}"
