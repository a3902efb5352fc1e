"""A stage: a function from a validated input to a validated output, and how it is to be executed."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypedDict, TypeVar

from workflow_engine.definition.checks import (
    check_duration,
    check_name,
    check_optional_duration,
    check_queue,
    check_whole_number,
    describe_id,
    is_valid_id,
)
from workflow_engine.definition.stages.outcomes import Retry
from workflow_engine.definition.stages.signatures import check_callable, is_async_function
from workflow_engine.definition.workflows.group_output import GroupOutput
from workflow_engine.errors import DefinitionError
from workflow_engine.payloads.schemas import NoInput, Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from decimal import Decimal

    from workflow_engine.definition.contexts.contexts import CancelContext, PollContext, StageContext

InputT_contra = TypeVar("InputT_contra", contravariant=True)
OutputT_co = TypeVar("OutputT_co", covariant=True)

_DURATIONS: Final = ("timeout", "queue_timeout", "poll_interval", "max_wait")

#: Where release 0.1.0 has the classes of the library that are used in schemas. Names like ``list[NoInput]`` have the
#: module of the class in them, and a run that is under way goes on only with the fingerprints that it started with.
_FIRST_MODULES: Final = {
    "workflow_engine.payloads.schemas.": "workflow_engine.definition.schemas.",
    "workflow_engine.definition.workflows.config_presets.": "workflow_engine.definition.presets.",
    "workflow_engine.definition.workflows.group_output.": "workflow_engine.definition.group_output.",
    "workflow_engine.definition.workflows.groups.": "workflow_engine.definition.groups.",
    "workflow_engine.store.reads.snapshots.": "workflow_engine.store.snapshots.",
}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Stage(Generic[InputT_contra, OutputT_co]):
    """One step of a workflow, and the typed key of its output: ``ctx.require(extract)`` is a ``Text``.

    Made by ``@stage``, ``define_stage`` or ``define_async_batch_stage``. Immutable, compared by identity, and still
    callable: ``extract(ctx)`` runs the body, which is how unit tests use it.

    Raises:
        DefinitionError: An argument does not fit; the message names the stage and the argument.
    """

    id: str
    #: For people.
    name: str
    description: str = ""
    #: Changes the fingerprint: raise it when the meaning of the output changes but its schema does not.
    version: str = "1"

    input: Schema[Any]
    output: Schema[Any]
    config: Schema[Any]
    #: Schema of the suspended state; None for a stage that never suspends.
    state: Schema[Any] | None = None

    body: Callable[[StageContext[Any, Any]], Any]
    #: Asked until the suspended work is done; None for a stage that never suspends, or whose waits the engine ends.
    poll: Callable[[PollContext[Any, Any]], Any] | None = None

    #: Ids of the stages whose outputs it reads with ``ctx.require``; they must be in earlier groups.
    dependencies: tuple[str, ...] = ()
    retry: Retry = field(default_factory=Retry)
    #: Longest attempt; None for no limit.
    timeout: timedelta | None = None
    #: Longest wait for a worker before the first attempt; None for no limit.
    queue_timeout: timedelta | None = None
    #: Workers that it may take down before it fails.
    max_crashes: int = 3
    #: Wait between polls; None for the engine's default.
    poll_interval: timedelta | None = None
    #: Longest suspension; None for the engine's default.
    max_wait: timedelta | None = None
    #: Longest single poll.
    poll_timeout: timedelta = timedelta(seconds=60)
    #: Queue of its own; None for the engine's.
    queue: str | None = None
    #: Asked in the worker before the body; True skips the stage, which then has no output.
    skip_if: Callable[[StageContext[Any, Any]], bool] | None = None
    #: Called once after a cancel, to stop what the stage started elsewhere; best effort.
    on_cancel: Callable[[CancelContext[Any, Any]], None] | None = None
    #: Estimates the cost from the run's input and the stage's config, before anything runs.
    estimate_cost: Callable[[Any, Any], Decimal | float] | None = None

    is_async: bool = field(init=False)
    poll_is_async: bool = field(init=False)
    #: False for a stage that ignores what came before it.
    takes_input: bool = field(init=False)
    #: True for a stage that takes the outputs of a parallel group by stage.
    takes_group: bool = field(init=False)

    def __post_init__(self) -> None:
        _check(self)
        self._set("is_async", is_async_function(self.body))
        self._set("poll_is_async", self.poll is not None and is_async_function(self.poll))
        self._set("takes_input", not _is_class(self.input.type, NoInput))
        self._set("takes_group", _is_class(self.input.type, GroupOutput))
        for attribute in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(self.body, attribute):
                self._set(attribute, getattr(self.body, attribute))

    def __call__(self, ctx: StageContext[InputT_contra, Any]) -> Any:
        """Run the body, without anything that the engine adds; an async body gives a coroutine."""
        return self.body(ctx)

    def __repr__(self) -> str:
        return f"Stage({self.id!r}: {self.input.name} -> {self.output.name})"

    def __copy__(self) -> Stage[InputT_contra, OutputT_co]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Stage[InputT_contra, OutputT_co]:
        return self

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies the definition in every process: id, version and schemas, without titles and descriptions."""
        schemas = (self.input, self.output, self.config, self.state)
        shapes = (schema and [_first_name(schema), _shape(schema.json_schema())] for schema in schemas)
        return hash_json([self.id, self.version, *shapes])

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


class CommonOptions(TypedDict, total=False):
    """How a stage is executed; each is described on ``Stage``."""

    name: str
    description: str
    version: str
    dependencies: Sequence[Stage[Any, Any] | str]
    retry: Retry
    timeout: timedelta | None
    queue_timeout: timedelta | None
    max_crashes: int
    poll_interval: timedelta | None
    max_wait: timedelta | None
    poll_timeout: timedelta
    queue: str | None
    skip_if: Callable[[StageContext[Any, Any]], bool] | None
    on_cancel: Callable[[CancelContext[Any, Any]], None] | None
    estimate_cost: Callable[[Any, Any], Decimal | float] | None


def in_words(identifier: object) -> str:
    """Return an id as words: ``extract_text`` becomes ``Extract text``."""
    words = " ".join(str(identifier).replace("_", " ").replace("-", " ").split())
    return words[:1].upper() + words[1:]


def hash_json(value: object) -> str:
    """Return 32 hexadecimal digits that identify a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _check(stage: Stage[Any, Any]) -> None:
    if not is_valid_id(stage.id):
        raise DefinitionError(f"{describe_id('stage', stage.id)}; pass id=")
    label = f'stage "{stage.id}"'
    check_callable(stage.body, label)
    try:
        _check_options(stage)
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{label}: {error}") from None
    _check_hooks(stage, label)
    _check_dependencies(stage.dependencies, stage.id)


def _check_options(stage: Stage[Any, Any]) -> None:
    for option in _DURATIONS:
        check_optional_duration(option, getattr(stage, option))
    check_duration("poll_timeout", stage.poll_timeout)
    check_whole_number("max_crashes", stage.max_crashes, least=1)
    for option in ("name", "description", "version"):
        check_name(option, getattr(stage, option))
    if not isinstance(stage.retry, Retry):
        raise TypeError(f"retry must be a Retry, not {type(stage.retry).__name__}")
    if stage.queue is not None:
        check_queue(stage.queue)


def _check_hooks(stage: Stage[Any, Any], label: str) -> None:
    if stage.poll is not None:
        check_callable(stage.poll, f"{label}: poll")
    for option in ("skip_if", "on_cancel"):
        hook = getattr(stage, option)
        if hook is None:
            continue
        check_callable(hook, f"{label}: {option}")
        if is_async_function(hook):
            raise DefinitionError(f"{label}: {option} must be a plain function, not async")
    if stage.estimate_cost is not None and not callable(stage.estimate_cost):
        raise DefinitionError(f"{label}: estimate_cost must be a function of input and config")


def _check_dependencies(dependencies: Iterable[object], stage_id: str) -> None:
    for dependency in dependencies:
        if not is_valid_id(dependency):
            raise DefinitionError(f'stage "{stage_id}": {describe_id("dependency", dependency)}')
        if dependency == stage_id:
            raise DefinitionError(f'stage "{stage_id}" depends on itself')


def _is_class(tp: Any, wanted: type) -> bool:
    return isinstance(tp, type) and issubclass(tp, wanted)


#: Keywords whose values are data of the user, not parts of the schema.
_DATA: Final = frozenset({"default", "const", "enum", "examples"})


def _first_name(schema: Schema[Any]) -> str:
    """Return the name of a schema as release 0.1.0 writes it, wherever the classes of the library are now."""
    name = schema.name
    for module, first in _FIRST_MODULES.items():
        name = name.replace(module, first)
    return name


def _shape(schema: Any) -> Any:
    """Return a JSON schema without titles and descriptions, which are for people."""
    if isinstance(schema, list):
        return [_shape(item) for item in schema]
    if isinstance(schema, dict):
        return {key: item if key in _DATA else _shape(item) for key, item in schema.items() if not _is_prose(key, item)}
    return schema


def _is_prose(key: str, item: object) -> bool:
    return key in {"title", "description"} and isinstance(item, str)
