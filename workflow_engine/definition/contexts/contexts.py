"""What user code is given: the contexts of stage bodies, polls and cancel hooks."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from workflow_engine.definition.contexts.execution import ActiveExecution, Execution
from workflow_engine.payloads.schemas import NoConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from workflow_engine.definition.contexts.port import ContextPort, StageIdentity
    from workflow_engine.definition.stages.stage import Stage

InputT_co = TypeVar("InputT_co", covariant=True)
StateT_co = TypeVar("StateT_co", covariant=True)
ConfigT_co = TypeVar("ConfigT_co", covariant=True, default=NoConfig)


class StageContext(ActiveExecution, Generic[InputT_co, ConfigT_co]):
    """What a stage body is given: its input, its config, and what it may do.

    Example:
        ``def extract(ctx: StageContext[Document, ExtractConfig]) -> Text: ...``
    """

    def __init__(
        self,
        *,
        identity: StageIdentity,
        input: InputT_co,  # noqa: A002 - the word of the domain
        config: ConfigT_co,
        stages: Mapping[str, Stage[Any, Any]],
        port: ContextPort,
        groups: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(identity=identity, stages=stages, port=port, groups=groups)
        self._input = input
        self._config = config

    @property
    def input(self) -> InputT_co:
        """The parsed input; this execution's own copy."""
        return self._input

    @property
    def config(self) -> ConfigT_co:
        """The resolved config of the stage."""
        return self._config


class PollContext(ActiveExecution, Generic[StateT_co, ConfigT_co]):
    """What a poll is given: the state that the stage suspended with, and what it may do."""

    def __init__(
        self,
        *,
        identity: StageIdentity,
        state: StateT_co,
        config: ConfigT_co,
        suspended_at: datetime,
        polls: int,
        stages: Mapping[str, Stage[Any, Any]],
        port: ContextPort,
        groups: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(identity=identity, stages=stages, port=port, groups=groups)
        self._state = state
        self._config = config
        self._suspended_at = suspended_at
        self._polls = polls

    @property
    def state(self) -> StateT_co:
        """What the stage, or the last poll, left for this poll."""
        return self._state

    @property
    def config(self) -> ConfigT_co:
        """The resolved config of the stage."""
        return self._config

    @property
    def suspended_at(self) -> datetime:
        """When the stage suspended, in UTC."""
        return self._suspended_at

    @property
    def polls(self) -> int:
        """Polls of this suspension before this one."""
        return self._polls


class CancelContext(Execution, Generic[StateT_co, ConfigT_co]):
    """What an ``on_cancel`` hook is given, to stop what the stage started elsewhere."""

    def __init__(
        self, *, identity: StageIdentity, state: StateT_co | None, config: ConfigT_co, port: ContextPort
    ) -> None:
        super().__init__(identity=identity, port=port)
        self._state = state
        self._config = config

    @property
    def state(self) -> StateT_co | None:
        """The suspended state, or None where the stage was not suspended."""
        return self._state

    @property
    def config(self) -> ConfigT_co:
        """The resolved config of the stage."""
        return self._config
