"""How explicit types and annotations are combined into the types of a stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from workflow_engine.definition.stages.signatures import (
    UNKNOWN,
    BodySignature,
    PollSignature,
    is_assignable,
    may_suspend,
    read_body,
    read_poll,
)
from workflow_engine.errors import DefinitionError
from workflow_engine.payloads.schemas import NoConfig, describe_type

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StageTypes:
    """The types of a stage, as far as they were given explicitly."""

    input: Any = UNKNOWN
    output: Any = UNKNOWN
    config: Any = UNKNOWN
    state: Any = UNKNOWN


@dataclass(frozen=True, slots=True)
class _Unread(StageTypes):
    """Stands for annotations that were not readable and are not needed."""

    engine_ends: Any = UNKNOWN
    engine_output: Any = UNKNOWN


def resolve_types(
    body: Callable[..., Any], poll: Callable[..., Any] | None, given: StageTypes, label: str
) -> StageTypes:
    """Combine explicit types with the annotations of body and poll, and check that they agree.

    Raises:
        DefinitionError: A type is missing, or body and poll disagree.
    """
    is_complete = UNKNOWN not in (given.input, given.output) and (poll is None or given.state is not UNKNOWN)
    body_says = _read(read_body, body, given, label, is_optional=is_complete)
    known = StageTypes(
        input=_first(given.input, body_says.input),
        output=_first(given.output, body_says.output),
        config=_first(given.config, body_says.config, NoConfig),
        state=_first(given.state, body_says.state),
    )
    if poll is None:
        return _without_poll(known, body_says, label, suspends=may_suspend(body))
    poll_says = _read(read_poll, poll, given, label, is_optional=is_complete)
    return _with_poll(known, poll_says, given, body_says, label)


def _read(
    read: Callable[..., R], function: Callable[..., Any], given: StageTypes, label: str, *, is_optional: bool
) -> R | _Unread:
    """Read annotations; where everything is given explicitly they may be missing or odd."""
    try:
        return read(function, label, needs_output=given.output is UNKNOWN)
    except DefinitionError:
        if is_optional:
            return _Unread()
        raise


def _without_poll(known: StageTypes, body_says: BodySignature | _Unread, label: str, *, suspends: bool) -> StageTypes:
    if body_says.engine_ends is not UNKNOWN:
        if body_says.output is not UNKNOWN:
            only = describe_type(body_says.engine_ends)
            raise DefinitionError(f"{label}: a body that returns {only} returns nothing else; annotate it -> {only}")
        return replace(known, output=_first(known.output, body_says.engine_output))
    if known.state is not UNKNOWN or suspends:
        raise DefinitionError(
            f"{label} returns Suspend but has no poll; pass poll=, a function of a PollContext, "
            "or return Suspend.until_runs(...) and annotate the body -> UntilRuns"
        )
    return known


def _with_poll(
    known: StageTypes,
    poll_says: PollSignature | _Unread,
    given: StageTypes,
    body_says: BodySignature | _Unread,
    label: str,
) -> StageTypes:
    if body_says.engine_ends is not UNKNOWN:
        what = describe_type(body_says.engine_ends)
        raise DefinitionError(f"{label}: {what} is polled by the engine; remove poll=")
    if known.state is UNKNOWN:
        raise DefinitionError(
            f"{label} has a poll but its body never returns Suspend; annotate it -> Suspend[BatchRef]"
        )
    output = _first(given.output, poll_says.output)
    _check_fits(known.state, poll_says.state, f"{label} suspends with", "but its poll takes")
    _check_fits(known.output, output, f"{label} returns", "but its poll returns")
    if poll_says.config is not NoConfig:
        _check_fits(known.config, poll_says.config, f"{label} has the config", "but its poll takes")
    return replace(known, output=output)


def _check_fits(given: Any, wanted: Any, this: str, that: str) -> None:
    if UNKNOWN not in (given, wanted) and not is_assignable(given, wanted):
        raise DefinitionError(f"{this} {describe_type(given)} {that} {describe_type(wanted)}")


def _first(*types: Any) -> Any:
    return next((tp for tp in types if tp is not UNKNOWN), UNKNOWN)
