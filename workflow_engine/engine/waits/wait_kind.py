"""The engine's side of a kind of wait."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workflow_engine.definition.waits import Wait

if TYPE_CHECKING:
    from workflow_engine.definition import Stage
    from workflow_engine.engine.data.stage_execution import StageExecution
    from workflow_engine.engine.decisions.outcomes import Completed, Failed, NotReady
    from workflow_engine.engine.process.engine import Engine

WaitT = TypeVar("WaitT", bound=Wait[Any])


class WaitKind(ABC, Generic[WaitT]):
    """One kind of wait; without state of its own."""

    #: The class of its values.
    wait: type[WaitT]

    @abstractmethod
    def encode(self, engine: Engine, stage: Stage[Any, Any], wait: WaitT) -> str:
        """Return the JSON text that is stored while the stage waits.

        Raises:
            DefinitionError: Nothing would end the wait.
            InvalidDataError, PayloadError: The state cannot be stored.
        """

    @abstractmethod
    def ask(self, execution: StageExecution) -> Completed | NotReady | Failed:
        """Find out whether the wait is over. An error that is raised is decided like one of a poll."""

    def find_lack(self, stage: Stage[Any, Any]) -> str | None:
        """Say in a sentence which part that ``ask`` needs is missing in the stage's definition; None if it has all."""

    def decode(self, stage: Stage[Any, Any], state: str) -> Any:
        """Return from the stored text the state that ``on_cancel`` is given; None where the stage had given none."""
