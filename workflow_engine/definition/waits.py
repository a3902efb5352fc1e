"""The waits of suspended stages: one small value for each kind.

A value names its kind by the text that is stored with the stage run. How the engine stores, asks for and ends a wait of
that kind is in ``workflow_engine.engine.waits``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from workflow_engine.definition.checks import check_name

OutputT_co = TypeVar("OutputT_co", covariant=True)


class Wait(Generic[OutputT_co]):
    """A stage is suspended until it is over. ``OutputT_co`` is the output where the engine itself ends the wait."""

    __slots__ = ()

    #: Stored in the column ``suspended_on``, of 8 characters; workers of other releases read it, so it never changes.
    kind: ClassVar[str]
    #: The type of the stored state. It is part of the stage's fingerprint.
    state_type: ClassVar[Any] = Any


@dataclass(frozen=True, slots=True)
class Poll(Wait[Any]):
    """The stage's own poll says when the work is done, and returns the output."""

    kind: ClassVar[str] = "poll"

    #: Given to the poll.
    state: Any


@dataclass(frozen=True, slots=True)
class Runs(Wait[dict[str, Any]]):
    """All of these runs have to end; their outputs, keyed by run id, are the output of the stage.

    Raises:
        ValueError: No run is given.
        TypeError: A run id is no string.
    """

    kind: ClassVar[str] = "runs"
    state_type: ClassVar[Any] = tuple[str, ...]

    run_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.run_ids:
            raise ValueError("Suspend.until_runs needs at least one run")
        for run_id in self.run_ids:
            check_name("a run id", run_id)
