"""Contexts for unit tests of bodies, polls and cancel hooks: no database, no broker, no worker.

Input, state, config and outputs go through the same schemas as in a run, and what the function under test does with
its context is recorded for assertions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypedDict, overload

from typing_extensions import TypeVar, Unpack, override

from workflow_engine.clock import SystemClock
from workflow_engine.definition import (
    CancelContext,
    GroupOutput,
    NoConfig,
    NoInput,
    PollContext,
    Stage,
    StageContext,
    StageIdentity,
)
from workflow_engine.definition.contexts.execution import ActiveExecution, Execution
from workflow_engine.definition.workflows.config import resolve_config
from workflow_engine.ids import id_of
from workflow_engine.testing.recorded import Recorded, RecordingPort, encode_output

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from workflow_engine.payloads.schemas import Schema

InputT = TypeVar("InputT")
StateT = TypeVar("StateT")
InputT_co = TypeVar("InputT_co", covariant=True)
StateT_co = TypeVar("StateT_co", covariant=True)
AnyStage = Stage[Any, Any] | str


class ContextOptions(TypedDict, total=False):
    """What every context of this module can be given."""

    #: The stage under test: its schemas check input, state and config, and its defaults fill in the config.
    stage: Stage[Any, Any] | None
    #: A model, or a mapping, which is merged over the defaults of the stage.
    config: object
    #: Outputs of other stages for ``ctx.require`` and ``ctx.optional``, by stage or by id.
    outputs: Mapping[Any, object]
    #: Other stages that were skipped.
    skipped: Collection[AnyStage]
    #: Runs that an earlier execution of the stage created: their ids by the ``key`` that it gave ``ctx.create_run``, or
    #: by the workflow's id where it gave none. Other runs that the body creates are new and get ids of their own.
    created_before: Mapping[str, str]
    #: The metadata of the run.
    metadata: Mapping[str, Any]
    run_id: str
    #: Which execution of the stage this is, from 1 on.
    attempt: int
    #: How often the run was rerun.
    generation: int


class _RecordedExecution(Execution):
    def __init__(self, *, port: RecordingPort, **facts: Any) -> None:
        super().__init__(port=port, **facts)
        self._recording = port

    @property
    def recorded(self) -> Recorded:
        """What the function under test did with the context."""
        return self._recording.recorded


class _RecordedActivity(_RecordedExecution, ActiveExecution):
    @property
    @override
    def cancelled(self) -> bool:
        """Whether the run was cancelled; a test may set it."""
        return self._recording.cancelled

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self._recording.cancelled = value

    @override
    def _parse(self, stage: AnyStage, text: str) -> Any:
        return super()._parse(self._recording.known.get(id_of(stage), stage), text)

    @override
    def _describe_missing(self, stage_id: str, output: object) -> str:
        return (
            f'Stage "{self.stage_id}" requires the output of stage "{stage_id}", which the test does not give: '
            f"pass outputs={{{stage_id}: …}}, or skipped=[{stage_id}]"
        )


class RecordedStageContext(_RecordedActivity, StageContext[InputT_co, Any], Generic[InputT_co]):
    """What ``stage_context`` returns."""


class RecordedPollContext(_RecordedActivity, PollContext[StateT_co, Any], Generic[StateT_co]):
    """What ``poll_context`` returns."""


class RecordedCancelContext(_RecordedExecution, CancelContext[StateT_co, Any], Generic[StateT_co]):
    """What ``cancel_context`` returns."""


@overload
def stage_context(**options: Unpack[ContextOptions]) -> RecordedStageContext[Any]: ...


@overload
def stage_context(input: InputT, **options: Unpack[ContextOptions]) -> RecordedStageContext[InputT]: ...


def stage_context(input: Any = None, **options: Unpack[ContextOptions]) -> RecordedStageContext[Any]:  # noqa: A002 - the word of the domain
    """Return a context to call a body with.

    Example:
        >>> from workflow_engine import StageContext, stage
        >>> @stage
        ... def count(ctx: StageContext[str]) -> int:
        ...     ctx.log.info("counted", text=ctx.input)
        ...     return len(ctx.input)
        >>> ctx = stage_context("three", stage=count)
        >>> count(ctx), ctx.recorded.logs[0].message
        (5, 'counted')

    Args:
        input: The input. For a stage that takes a ``GroupOutput``: the outputs of the group's members, by stage. It may
            be left out for a stage that takes ``NoInput``.
        options: As ``ContextOptions`` says.

    Raises:
        InvalidDataError: Something does not fit the stage's schema, or an output that of its stage.
        PayloadError: Something could not be stored by a run.
    """
    return RecordedStageContext(
        identity=_identity(options),
        input=_read_input(options.get("stage"), input),
        config=_read_config(options),
        stages={},
        port=_port(options),
    )


def poll_context(
    state: StateT, *, polls: int = 0, suspended_at: datetime | None = None, **options: Unpack[ContextOptions]
) -> RecordedPollContext[StateT]:
    """Return a context to call a poll with.

    Args:
        state: What the stage suspended with.
        polls: Polls of the suspension before this one.
        suspended_at: When the stage suspended; by default now.
        options: As ``ContextOptions`` says.

    Raises:
        InvalidDataError, PayloadError: As ``stage_context``.
    """
    stage = options.get("stage")
    return RecordedPollContext(
        identity=_identity(options),
        state=_read(None if stage is None else stage.state, state, "suspended state", stage),
        config=_read_config(options),
        suspended_at=suspended_at or SystemClock().now(),
        polls=polls,
        stages={},
        port=_port(options),
    )


def cancel_context(state: StateT | None = None, **options: Unpack[ContextOptions]) -> RecordedCancelContext[StateT]:
    """Return a context to call an ``on_cancel`` hook with; ``state`` is None where the stage had not suspended.

    Raises:
        InvalidDataError, PayloadError: As ``stage_context``.
    """
    stage = options.get("stage")
    schema = None if stage is None or state is None else stage.state
    return RecordedCancelContext(
        identity=_identity(options),
        state=_read(schema, state, "suspended state", stage),
        config=_read_config(options),
        port=_port(options),
    )


def _identity(options: ContextOptions) -> StageIdentity:
    stage = options.get("stage")
    return StageIdentity(
        run_id=options.get("run_id", "run"),
        workflow_id="workflow",
        stage_id="stage" if stage is None else stage.id,
        stage_name="Stage" if stage is None else stage.name,
        stage_run_id="stage-run",
        attempt=options.get("attempt", 1),
        generation=options.get("generation", 0),
        fence=options.get("attempt", 1),
        metadata=options.get("metadata", {}),
    )


def _port(options: ContextOptions) -> RecordingPort:
    identity = _identity(options)
    return RecordingPort(
        outputs=options.get("outputs", {}),
        skipped=options.get("skipped", ()),
        created_before=options.get("created_before", {}),
        parent_key=identity.idempotency_key,
    )


def _read_input(stage: Stage[Any, Any] | None, value: Any) -> Any:
    if isinstance(value, Mapping) and (_has_stages(value) or (stage is not None and stage.takes_group)):
        members = {key.id: key for key in value if isinstance(key, Stage)}
        return GroupOutput({id_of(key): encode_output(key, output) for key, output in value.items()}, members)
    if value is None and (stage is None or not stage.takes_input):
        return NoInput()
    return _read(None if stage is None else stage.input, value, "input", stage)


def _has_stages(value: Mapping[Any, Any]) -> bool:
    return any(isinstance(key, Stage) for key in value)


def _read_config(options: ContextOptions) -> Any:
    """Return the config as a run resolves it: what is given, merged over the stage's defaults."""
    stage, config = options.get("stage"), options.get("config")
    if stage is None:
        return NoConfig() if config is None else config
    overrides = None if config is None else {stage.id: config}
    what = f'config of stage "{stage.id}"'
    return stage.config.parse_fields(resolve_config({stage.id: stage}, overrides, what=what)[stage.id], what=what)


def _read(schema: Schema[Any] | None, value: Any, what: str, stage: Stage[Any, Any] | None) -> Any:
    if schema is None or stage is None:
        return value
    what = f'{what} of stage "{stage.id}"'
    return schema.decode(schema.store(value, what=what), what=what)
