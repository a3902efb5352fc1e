"""How stages are made: ``@stage`` reads annotations; ``define_stage`` takes explicit schemas at run time."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from workflow_engine.definition.stages.signatures import UNKNOWN, check_callable
from workflow_engine.definition.stages.stage import CommonOptions, Stage, in_words
from workflow_engine.definition.stages.type_resolution import StageTypes, resolve_types
from workflow_engine.errors import DefinitionError
from workflow_engine.names import among
from workflow_engine.payloads.schemas import Schema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from typing_extensions import Unpack

    from workflow_engine.definition.contexts.contexts import PollContext, StageContext
    from workflow_engine.definition.stages.outcomes import Pending, Suspend
    from workflow_engine.definition.waits import Wait

I = TypeVar("I")  # noqa: E741 - an input
O = TypeVar("O")  # noqa: E741 - an output
C = TypeVar("C")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)

if TYPE_CHECKING:
    #: What a body returns whose suspension the engine ends with an output of type O.
    EndedByEngine = Suspend[Wait[O]] | Awaitable[Suspend[Wait[O]]]


class StageOptions(CommonOptions, total=False):
    """What ``@stage(...)`` takes: the id as well, which is the function's name otherwise."""

    id: str


class StageDecorator(Protocol):
    """What ``@stage(...)`` without a poll returns."""

    @overload
    def __call__(self, body: Callable[[StageContext[I, C]], EndedByEngine[O]], /) -> Stage[I, O]: ...

    @overload
    def __call__(self, body: Callable[[StageContext[I, C]], Awaitable[O]], /) -> Stage[I, O]: ...

    @overload
    def __call__(self, body: Callable[[StageContext[I, C]], O], /) -> Stage[I, O]: ...


class PolledStageDecorator(Protocol[S_contra, O]):
    """What ``@stage(poll=...)`` returns: the poll says what the body may return."""

    def __call__(
        self, body: Callable[[StageContext[I, C]], Suspend[S_contra] | O | Awaitable[Suspend[S_contra] | O]], /
    ) -> Stage[I, O]:
        """Make a stage of a body that may suspend."""


@overload
def stage(body: Callable[[StageContext[I, C]], EndedByEngine[O]], /) -> Stage[I, O]: ...


@overload
def stage(body: Callable[[StageContext[I, C]], Awaitable[O]], /) -> Stage[I, O]: ...


@overload
def stage(body: Callable[[StageContext[I, C]], O], /) -> Stage[I, O]: ...


@overload
def stage(
    *, poll: Callable[[PollContext[S, Any]], Awaitable[O | Pending[Any]]], **options: Unpack[StageOptions]
) -> PolledStageDecorator[S, O]: ...


@overload
def stage(
    *, poll: Callable[[PollContext[S, Any]], O | Pending[Any]], **options: Unpack[StageOptions]
) -> PolledStageDecorator[S, O]: ...


@overload
def stage(**options: Unpack[StageOptions]) -> StageDecorator: ...


def stage(
    body: Callable[..., Any] | None = None,
    /,
    *,
    poll: Callable[..., Any] | None = None,
    **options: Unpack[StageOptions],
) -> Any:
    """Make a stage of a function, with or without options.

    Input and config come from the annotation of its parameter (``StageContext[Document, ExtractConfig]``), the
    output from its return annotation. A body that may return ``Suspend[BatchRef]`` needs a ``poll``, which takes a
    ``PollContext[BatchRef, ...]`` and returns the output or ``Pending``.

    Args:
        body: The function, when used without parentheses.
        poll: Asked until the suspended work is done.
        options: See ``Stage``; ``id`` defaults to the function's name, ``name`` to the id in words.

    Raises:
        DefinitionError: The annotations or options do not make a stage; the message says what was expected.
    """

    def decorate(function: Callable[..., Any]) -> Stage[Any, Any]:
        return _make_stage(function, poll, StageTypes(), dict(options))

    return decorate if body is None else decorate(body)


@overload
def define_stage(
    *,
    id: str,
    execute: Callable[[StageContext[I, C]], Awaitable[O]],
    input: type[I] | None = None,
    output: type[O] | None = None,
    config: type[C] | None = None,
    **options: Unpack[CommonOptions],
) -> Stage[I, O]: ...


@overload
def define_stage(
    *,
    id: str,
    execute: Callable[[StageContext[I, C]], O],
    input: type[I] | None = None,
    output: type[O] | None = None,
    config: type[C] | None = None,
    **options: Unpack[CommonOptions],
) -> Stage[I, O]: ...


def define_stage(
    *,
    id: str,  # noqa: A002 - the word of the domain
    execute: Callable[..., Any],
    input: Any = None,  # noqa: A002 - the word of the domain
    output: Any = None,
    config: Any = None,
    **options: Unpack[CommonOptions],
) -> Stage[Any, Any]:
    """Make a stage at run time; explicit schemas win over annotations, which are only read for what is not given.

    Args:
        id: The stage's id.
        execute: The body.
        input: Type of the input.
        output: Type of the output; ``type(None)`` for none.
        config: Type of the config; none by default.
        options: See ``Stage``.

    Raises:
        DefinitionError: The annotations or options do not make a stage.
    """
    types = StageTypes(_given(input), _given(output), _given(config))
    return _make_stage(execute, None, types, {"id": id, **options})


@overload
def define_async_batch_stage(
    *,
    id: str,
    execute: Callable[[StageContext[I, C]], object],
    check: Callable[[PollContext[S, Any]], Awaitable[O | Pending[Any]]],
    input: type[I] | None = None,
    output: type[O] | None = None,
    state: type[S] | None = None,
    config: type[C] | None = None,
    **options: Unpack[CommonOptions],
) -> Stage[I, O]: ...


@overload
def define_async_batch_stage(
    *,
    id: str,
    execute: Callable[[StageContext[I, C]], object],
    check: Callable[[PollContext[S, Any]], O | Pending[Any]],
    input: type[I] | None = None,
    output: type[O] | None = None,
    state: type[S] | None = None,
    config: type[C] | None = None,
    **options: Unpack[CommonOptions],
) -> Stage[I, O]: ...


def define_async_batch_stage(
    *,
    id: str,  # noqa: A002 - the word of the domain
    execute: Callable[..., Any],
    check: Callable[..., Any],
    input: Any = None,  # noqa: A002 - the word of the domain
    output: Any = None,
    state: Any = None,
    config: Any = None,
    **options: Unpack[CommonOptions],
) -> Stage[Any, Any]:
    """Make a stage that suspends and is polled, at run time; explicit schemas win over annotations.

    Args:
        id: The stage's id.
        execute: The body; returns ``Suspend(state)``, or the output if it is there at once.
        check: The poll; returns the output or ``Pending``.
        input: Type of the input.
        output: Type of the output.
        state: Type of the suspended state.
        config: Type of the config; none by default.
        options: See ``Stage``.

    Raises:
        DefinitionError: The annotations or options do not make a stage.
    """
    types = StageTypes(_given(input), _given(output), _given(config), _given(state))
    return _make_stage(execute, check, types, {"id": id, **options})


def _given(tp: Any) -> Any:
    return UNKNOWN if tp is None else tp


def _make_stage(
    body: Callable[..., Any], poll: Callable[..., Any] | None, given: StageTypes, options: dict[str, Any]
) -> Stage[Any, Any]:
    stage_id = options.pop("id", None)
    if stage_id is None:
        stage_id = getattr(body, "__name__", None) or repr(body)
    label = f'stage "{stage_id}"'
    check_callable(body, label)
    types = resolve_types(body, poll, given, label)
    return Stage(
        id=stage_id,
        name=options.pop("name", None) or in_words(stage_id),
        description=options.pop("description", None) or _first_paragraph(body),
        dependencies=_read_dependencies(options.pop("dependencies", ()), label),
        input=_schema(types.input, "input", label),
        output=_schema(types.output, "output", label),
        config=_schema(types.config, "config", label),
        state=None if types.state is UNKNOWN else _schema(types.state, "state", label),
        body=body,
        poll=poll,
        **_known_options(options, label),
    )


def _schema(tp: Any, role: str, label: str) -> Schema[Any]:
    if isinstance(tp, Schema):
        return tp
    if tp is UNKNOWN:
        raise DefinitionError(f"{label}: the type of its {role} is not known; annotate it or pass {role}=")
    try:
        return Schema.of(tp)
    except DefinitionError as error:
        raise DefinitionError(f"{label}: {role}: {error}") from error


def _known_options(options: dict[str, Any], label: str) -> dict[str, Any]:
    """Refuse options that do not exist, with the nearest one that does."""
    for option in options.keys() - CommonOptions.__annotations__.keys():
        there = among(option, CommonOptions.__annotations__, kind="options")
        raise DefinitionError(f"{label}: unknown option {option!r}{there}")
    return options


def _read_dependencies(dependencies: object, label: str) -> tuple[str, ...]:
    if isinstance(dependencies, str | Stage) or not isinstance(dependencies, Iterable):
        raise DefinitionError(f"{label}: dependencies must be a list of stages or ids, got {dependencies!r}")
    ids = tuple(dependency.id if isinstance(dependency, Stage) else dependency for dependency in dependencies)
    return tuple(dict.fromkeys(ids))


def _first_paragraph(function: Callable[..., Any]) -> str:
    """Return the first paragraph of the function's own docstring, on one line."""
    document = inspect.getdoc(function) if inspect.isroutine(function) else None
    return " ".join((document or "").split("\n\n")[0].split())
