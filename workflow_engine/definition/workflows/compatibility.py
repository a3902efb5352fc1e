"""Whether the output of one group can be the input of the next stage, as far as that is certain beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, get_origin

from pydantic import BaseModel

from workflow_engine.definition.stages.signatures import is_assignable
from workflow_engine.definition.workflows.config import rewrites_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow_engine.definition.stages.stage import Stage
    from workflow_engine.payloads.schemas import Schema

#: JSON schema keywords under which a value may have several shapes.
_UNCERTAIN: Final = frozenset({"anyOf", "oneOf", "allOf", "not", "if", "enum", "const", "patternProperties"})
#: Types that never turn into another one of these, whatever the coercion.
_DISTINCT: Final = frozenset({"object", "array", "null"})


def refuse_value(stage: Stage[Any, Any], given: Schema[Any]) -> str | None:
    """Say why ``stage`` cannot take a value of schema ``given``; None where it can, or may."""
    wanted = stage.input
    if not stage.takes_input or is_assignable(given.type, wanted.type):
        return None
    if stage.takes_group:
        return f"takes a GroupOutput, but no parallel group comes before it (it would be given {given.name})"
    if _has_hidden_shape(given.type) or _has_hidden_shape(wanted.type):
        return None
    reason = _compare(_shape_of(given), _shape_of(wanted))
    return f"takes {wanted.name}, but would be given {given.name}: {reason}" if reason else None


def refuse_group(stage: Stage[Any, Any], members: Sequence[Stage[Any, Any]]) -> str | None:
    """Say why ``stage`` cannot take the outputs of a parallel group, keyed by stage id; None where it can, or may."""
    if not stage.takes_input or stage.takes_group or _has_hidden_shape(stage.input.type):
        return None
    ids = frozenset(member.id for member in members)
    # A member with a skip_if may be absent.
    given = _Shape(type="object", fields=ids, is_open=False, required=frozenset(m.id for m in members if not m.skip_if))
    reason = _compare(given, _shape_of(stage.input))
    if reason is None:
        return None
    outputs = ", ".join(sorted(ids))
    return f"takes {stage.input.name}, but would be given the outputs of the group, keyed by {outputs}: {reason}"


@dataclass(frozen=True, slots=True)
class _Shape:
    """The outermost shape of the values of a schema."""

    #: JSON type, or None where it is not certain.
    type: str | None
    fields: frozenset[str]
    #: Whether it may have other fields as well.
    is_open: bool
    #: As an output: fields that are always there. As an input: fields that must be there.
    required: frozenset[str]
    refuses_others: bool = False


def _compare(given: _Shape, wanted: _Shape) -> str | None:
    if given.type is None or wanted.type is None:
        return None
    if given.type != wanted.type:
        is_certain = bool({given.type, wanted.type} & _DISTINCT)
        return f"expected {wanted.type}, not {given.type}" if is_certain else None
    missing = [] if given.is_open else sorted(wanted.required - given.fields)
    if missing:
        return f"it has no {_quoted(missing)}"
    extra = sorted(given.required - wanted.fields) if wanted.refuses_others else []
    return f"{_quoted(extra)} would be extra" if extra else None


def _shape_of(schema: Schema[Any]) -> _Shape:
    root = schema.json_schema()
    outer = _resolve(root, root)
    kind = outer.get("type")
    others = outer.get("additionalProperties")
    fields = frozenset(outer.get("properties", {})) - _excluded(schema.type)
    return _Shape(
        type=None if _UNCERTAIN & outer.keys() or not isinstance(kind, str) else kind,
        fields=fields,
        is_open=bool(others),
        required=frozenset(outer.get("required", ())) & fields,
        refuses_others=others is False,
    )


def _resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: dict[str, Any] = root.get("$defs", {}).get(str(reference).rpartition("/")[2], {})
    return target


def _has_hidden_shape(tp: Any) -> bool:
    """Tell whether code of the user may turn the value into something else than its schema shows."""
    if get_origin(tp) is Annotated:
        return True
    return _is_model(tp) and (rewrites_input(tp) or bool(tp.__pydantic_decorators__.model_serializers))


def _excluded(tp: Any) -> frozenset[str]:
    """Return the fields of a model that are never stored."""
    return frozenset(name for name, field in tp.model_fields.items() if field.exclude) if _is_model(tp) else frozenset()


def _is_model(tp: Any) -> bool:
    return isinstance(tp, type) and issubclass(tp, BaseModel)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
