"""Arguments of the facade's methods: a name means one thing, and one rule checks it before anything is read or written."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from workflow_engine import arguments
from workflow_engine.definition import Stage, Workflow
from workflow_engine.definition.contexts.storage import MAX_KEY_LENGTH
from workflow_engine.errors import InvalidRequestError
from workflow_engine.lifecycle import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

ClassT = TypeVar("ClassT", bound=type)

_LONGEST_ACTOR: Final = 200


def checks_arguments(cls: ClassT) -> ClassT:
    """Let every public method of a class refuse arguments that its names do not allow, with InvalidRequestError."""
    for name, method in list(vars(cls).items()):
        is_concrete = inspect.isfunction(method) and not getattr(method, "__isabstractmethod__", False)
        if is_concrete and not name.startswith("_"):
            setattr(cls, name, _checked(method))
    return cls


def find_check(method: str, parameter: str) -> Callable[[str, Any], object] | None:
    """Return the rule for a parameter of a method; None where its value is checked by what uses it."""
    return _CHECKS.get(f"{method}.{parameter}") or _CHECKS.get(parameter)


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)
    checks = {name: check for name in signature.parameters if (check := find_check(method.__name__, name))}
    optional = {name for name, parameter in signature.parameters.items() if parameter.default is None}

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return method(*args, **kwargs)  # Python says what is missing or too much
        for name, value in given.items():
            if name in checks and not (value is None and name in optional):
                checks[name](name, value)
        return method(*args, **kwargs)

    return call


def _check_stage(name: str, value: object) -> None:
    if not isinstance(value, Stage | str):
        raise InvalidRequestError(f"{name} must be a stage or the id of one, got {arguments.show(value)}")


def _check_workflow(name: str, value: object) -> None:
    if not isinstance(value, Workflow | str):
        raise InvalidRequestError(f"{name} must be a workflow or the id of one, got {arguments.show(value)}")


def _check_statuses(name: str, value: object) -> None:
    arguments.read_statuses(RunStatus, value, name=name)


def _check_metadata(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidRequestError(f"{name} must be a mapping with string keys, got {arguments.show(value)}")


def _check_cursor(name: str, value: object) -> None:
    try:
        UUID(arguments.check_string(name, value))
    except ValueError:
        raise InvalidRequestError(f"{name} {arguments.show(value)} is not the next_cursor of a page") from None


def _check_timeout(name: str, value: object) -> None:
    """Refuse what is no duration; one that is over already is a timeout, not a mistake."""
    if not isinstance(value, timedelta) or value > timedelta(0):
        arguments.check_duration(name, value)


def _check_limit(name: str, value: object) -> None:
    arguments.check_number(name, value, least=1, most=arguments.MOST_ITEMS)


def _check_concurrency(name: str, value: object) -> None:
    arguments.check_number(name, value, least=1)


def _check_age(name: str, value: object) -> None:
    arguments.check_duration(name, value, zero=True)


def _check_artifact_key(name: str, value: object) -> None:
    arguments.check_text(name, value, longest=MAX_KEY_LENGTH)


def _check_actor(name: str, value: object) -> None:
    arguments.check_text(name, value, longest=_LONGEST_ACTOR)


def _check_idempotency_key(name: str, value: object) -> None:
    arguments.check_text(name, value, longest=arguments.LONGEST_IDEMPOTENCY_KEY)


_CHECKS: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "actor": _check_actor,
    "after": arguments.check_string,
    "after_sequence": arguments.check_number,
    "get_artifact.key": _check_artifact_key,
    "attempt": arguments.check_number,
    "completed_after": arguments.check_instant,
    "concurrency": _check_concurrency,
    "created_after": arguments.check_instant,
    "created_before": arguments.check_instant,
    "cursor": _check_cursor,
    "dry_run": arguments.check_flag,
    "error": arguments.check_string,
    "expected_generation": arguments.check_number,
    "force": arguments.check_flag,
    "from_stage": _check_stage,
    "generation": arguments.check_number,
    "grace": _check_age,
    "history": arguments.check_flag,
    "idempotency_key": _check_idempotency_key,
    "limit": _check_limit,
    "list_runs.metadata": _check_metadata,
    "list_runs.parent": arguments.check_string,
    "older_than": _check_age,
    "only": arguments.check_flag,
    "poll_interval": arguments.check_duration,
    "prefix": arguments.check_string,
    "reason": arguments.check_string,
    "run_id": arguments.check_string,
    "since": arguments.check_instant,
    "stage": _check_stage,
    "stage_id": _check_stage,
    "status": _check_statuses,
    "statuses": _check_statuses,
    "terminate": arguments.check_flag,
    "timeout": _check_timeout,
    "token": arguments.check_string,
    "valid_for": arguments.check_duration,
    "workflow": _check_workflow,
    "workflow_id": arguments.check_string,
}
