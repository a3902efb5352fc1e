"""Read the input, config, output and state types of a stage off the annotations of its body and its poll."""

from __future__ import annotations

import collections.abc
import inspect
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin, get_type_hints

from workflow_engine.definition.contexts.contexts import PollContext, StageContext
from workflow_engine.definition.stages.outcomes import Pending, Suspend
from workflow_engine.definition.waits import Wait
from workflow_engine.errors import DefinitionError
from workflow_engine.payloads.schemas import NoConfig, describe_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Says that an annotation is missing or was not asked for.
UNKNOWN: Final = object()

_AWAITABLES: Final = (collections.abc.Awaitable, collections.abc.Coroutine)
_UNIONS: Final = (Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class BodySignature:
    """The types of a stage body."""

    input: Any
    config: Any
    #: UNKNOWN where the body only ever suspends.
    output: Any
    #: UNKNOWN where the body never suspends.
    state: Any
    #: The suspensions, such as ``UntilRuns``, of a body that returns only those that the engine ends; else UNKNOWN.
    engine_ends: Any
    #: The output that the stage then has; else UNKNOWN.
    engine_output: Any


@dataclass(frozen=True, slots=True)
class PollSignature:
    """The types of a poll."""

    state: Any
    config: Any
    output: Any


@dataclass(frozen=True, slots=True)
class _Returns:
    """A return annotation, taken apart."""

    outputs: tuple[Any, ...]
    suspensions: tuple[Any, ...]
    pendings: tuple[Any, ...]

    @property
    def output(self) -> Any:
        return _union(self.outputs)


def read_body(body: Callable[..., Any], label: str, *, needs_output: bool = True) -> BodySignature:
    """Read a stage body.

    Args:
        body: The function.
        label: Names it in errors: ``stage "extract"``.
        needs_output: Whether a missing return annotation is an error.

    Raises:
        DefinitionError: An annotation is missing, cannot be resolved, or makes no sense.
    """
    hints = _resolve_hints(body, label)
    input_type, config = _read_context(body, hints, StageContext, label)
    returns = _read_returns(body, hints, label, needed=needs_output)
    if returns.pendings:
        raise DefinitionError(f"{label}: Pending is what a poll returns; a body returns Suspend")
    states = [_argument_of(suspension, Suspend) for suspension in returns.suspensions]
    if UNKNOWN in states:
        raise DefinitionError(
            f"{label}: Suspend needs the type of its state: annotate the body -> Output | Suspend[BatchRef] and pass "
            "poll=, or annotate it -> UntilRuns if it returns Suspend.until_runs(...)"
        )
    is_ended_by_engine = all(map(_is_wait, states))
    return BodySignature(
        input=input_type,
        config=config,
        output=returns.output,
        state=_union(state.state_type if _is_wait(state) else state for state in states),
        engine_ends=_union(returns.suspensions) if is_ended_by_engine else UNKNOWN,
        engine_output=_union(_argument_of(state, Wait) for state in states) if is_ended_by_engine else UNKNOWN,
    )


def may_suspend(body: Callable[..., Any]) -> bool:
    """Tell whether the return annotation names a ``Suspend`` that only a poll can end; False if it is unreadable."""
    try:
        hint = get_type_hints(body, include_extras=True).get("return")
    except Exception:  # noqa: BLE001 - whoever needs the annotations says what is wrong with them
        return False
    members = union_members(get_args(hint)[-1] if get_origin(hint) in _AWAITABLES else hint)
    return any(_is(member, Suspend) and not _is_wait(_argument_of(member, Suspend)) for member in members)


def read_poll(poll: Callable[..., Any], label: str, *, needs_output: bool = True) -> PollSignature:
    """Read a poll function.

    Raises:
        DefinitionError: An annotation is missing, cannot be resolved, or makes no sense.
    """
    label = f"{label}: poll function {_name_of(poll)}"
    hints = _resolve_hints(poll, label)
    state, config = _read_context(poll, hints, PollContext, label)
    returns = _read_returns(poll, hints, label, needed=needs_output)
    if returns.suspensions:
        raise DefinitionError(f"{label} returns Suspend; a poll returns Pending or the output")
    if needs_output and returns.output is UNKNOWN:
        raise DefinitionError(f"{label} never returns an output; annotate it as -> Output | Pending")
    for new_state in (argument for pending in returns.pendings for argument in get_args(pending)):
        if not is_assignable(new_state, state):
            names = f"{describe_type(state)}, but may return Pending with {describe_type(new_state)}"
            raise DefinitionError(f"{label} takes the state {names}")
    return PollSignature(state=state, config=config, output=returns.output)


def check_callable(function: object, label: str) -> None:
    """Refuse anything but a plain or async function of one argument.

    Raises:
        DefinitionError: It is not.
    """
    if not callable(function) or isinstance(function, type):
        raise DefinitionError(f"{label}: expected a function, got {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"{label} is a generator; return the output instead of yielding it")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise DefinitionError(f"{label} must take exactly one argument, the context ({error})") from None
    except ValueError:
        return  # built-in functions have no signature to check


def is_async_function(function: Callable[..., Any]) -> bool:
    """Tell whether calling ``function`` gives a coroutine: async functions, and objects with an async __call__."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is looked at
    )


def is_assignable(given: Any, wanted: Any) -> bool:
    """Tell whether a ``given`` type certainly or possibly fits where ``wanted`` is expected."""
    if given == wanted or Any in {_hashable(given), _hashable(wanted)} or wanted is object:
        return True
    if isinstance(given, type) and isinstance(wanted, type) and not get_args(given) and not get_args(wanted):
        return _is_subclass(given, wanted)
    given_members, wanted_members = union_members(given), union_members(wanted)
    if len(given_members) == 1 and len(wanted_members) == 1:
        return False
    return all(any(is_assignable(g, w) for w in wanted_members) for g in given_members)


def union_members(tp: Any) -> tuple[Any, ...]:
    """Return the members of a union type, or the type alone."""
    return get_args(tp) if get_origin(tp) in _UNIONS else (tp,)


def _is_subclass(given: type, wanted: type) -> bool:
    try:
        return issubclass(given, wanted)
    except TypeError:  # typed dicts and protocols refuse the question
        return False


def _hashable(tp: Any) -> Any:
    return tp if isinstance(tp, collections.abc.Hashable) else None


def _name_of(function: object) -> str:
    return getattr(function, "__name__", None) or repr(function)


def _resolve_hints(function: Callable[..., Any], label: str) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else getattr(function, "func", type(function).__call__)
    try:
        return get_type_hints(target, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"{label}: the annotation of {_name_of(function)} names {error.name!r}, which cannot be found in its "
            "module. Classes local to a function, and imports under TYPE_CHECKING, are invisible to "
            "`from __future__ import annotations`: define or import the class at module level, or use define_stage "
            "with explicit schemas."
        ) from None
    except Exception as error:
        raise DefinitionError(f"{label}: the annotations of {_name_of(function)} cannot be read: {error}") from error


def _read_context(function: Callable[..., Any], hints: dict[str, Any], context: type, label: str) -> tuple[Any, Any]:
    """Return the two type arguments of the context that the first parameter is annotated with."""
    name = next(iter(inspect.signature(function).parameters), None)
    hint = hints.get(name, UNKNOWN) if name else UNKNOWN
    example = f"{context.__name__}[{'Document' if context is StageContext else 'BatchRef'}]"
    if hint is UNKNOWN:
        raise DefinitionError(
            f"{label}: annotate the parameter {name!r} as {example} or {example[:-1]}, Config]{_instead(context)}"
        )
    if hint is context:
        raise DefinitionError(
            f"{label}: {context.__name__} needs its types: {example} or {example[:-1]}, Config]{_instead(context)}"
        )
    if get_origin(hint) is not context:
        raise DefinitionError(
            f"{label}: the parameter {name!r} must be a {context.__name__}, not {describe_type(hint)}{_instead(context)}"
        )
    first, *rest = get_args(hint)
    return first, rest[0] if rest else NoConfig


def _instead(context: type) -> str:
    """Name the options that make the annotation of a context unnecessary."""
    options = "input= and output=" if context is StageContext else "input=, output= and state="
    return f"; or pass {options} to define_stage"


def _read_returns(function: Callable[..., Any], hints: dict[str, Any], label: str, *, needed: bool) -> _Returns:
    if "return" not in hints:
        if needed:
            raise DefinitionError(f"{label}: annotate what {_name_of(function)} returns")
        return _Returns((), (), ())
    hint = hints["return"]
    if not is_async_function(function) and get_origin(hint) in _AWAITABLES:
        hint = get_args(hint)[-1]
    members = union_members(hint)
    return _Returns(
        outputs=tuple(m for m in members if not _is(m, Suspend) and not _is(m, Pending)),
        suspensions=tuple(m for m in members if _is(m, Suspend)),
        pendings=tuple(m for m in members if _is(m, Pending)),
    )


def _is(tp: Any, outcome: type) -> bool:
    origin = get_origin(tp) or tp
    return isinstance(origin, type) and issubclass(origin, outcome)


def _is_wait(state: Any) -> bool:
    """Tell whether the state of a suspension says itself what is waited for."""
    return _is(state, Wait)


def _argument_of(tp: Any, generic: type) -> Any:
    """Return the type argument with which ``tp`` is, or is derived from, ``generic``: Runs for ``UntilRuns``."""
    if get_origin(tp) is generic:
        return get_args(tp)[0]
    bases = getattr(get_origin(tp) or tp, "__orig_bases__", ())
    return next((found for base in bases if (found := _argument_of(base, generic)) is not UNKNOWN), UNKNOWN)


def _union(members: Iterable[Any]) -> Any:
    members = tuple(members)
    return Union[members] if members else UNKNOWN  # noqa: UP007 - a union of run-time types
