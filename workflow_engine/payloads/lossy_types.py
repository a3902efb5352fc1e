"""Which types can lose something on their way through JSON, read off their core schemas once, when a schema is made.

Values of a type of nothing but lossless parts are not compared when they are stored. A part that is not known to be
lossless counts as lossy, which costs time and loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final

from workflow_engine.payloads.text import Unstorable

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RoundTripRisks:
    """The ways in which storing a value of a type may lose something."""

    #: Whether a valid value of exactly these classes always comes back as it was.
    is_lossless: bool
    #: Whether a model of the type may leave fields to their defaults.
    has_defaults: bool
    #: The models and dataclasses of the type. An instance of a subclass does not come back as one.
    classes: tuple[type, ...]
    #: A field that is never stored and cannot be absent either, so that no stored value could be read back.
    unreadable: Unstorable | None

    @property
    def may_lose(self) -> bool:
        """Whether a value must be compared with what came back; subclasses may be made at any time."""
        return not self.is_lossless or any(type.__subclasses__(cls) for cls in self.classes)


def find_risks(schema: Node) -> RoundTripRisks:
    """Return the risks of the type that a Pydantic core schema is of."""
    nodes = list(_walk(schema))
    definitions = {node["ref"]: node for node in nodes if "ref" in node}
    return RoundTripRisks(
        is_lossless=all(_is_lossless(node, definitions) for node in nodes),
        has_defaults=any(node["type"] == "model-field" and _has_default(node) for node in nodes),
        classes=tuple(dict.fromkeys(node["cls"] for node in nodes if node["type"] in {"model", "dataclass"})),
        unreadable=next((problem for node in nodes if (problem := _find_unreadable(node))), None),
    )


#: Keys of a node under which other nodes lie.
_BELOW: Final = (
    *("schema", "items_schema", "keys_schema", "values_schema", "extras_schema", "arguments_schema", "fields"),
    *("choices", "definitions", "steps", "json_schema", "python_schema", "lax_schema", "strict_schema"),
)
#: Nodes that lose nothing, whatever they hold.
_LOSSLESS: Final = frozenset(
    {
        *("none", "bool", "int", "str", "float", "decimal", "uuid", "list", "tuple", "set", "frozenset"),
        *("default", "definitions", "definition-ref", "model-fields", "typed-dict", "dataclass-args"),
    }
)
_KEYS: Final = frozenset({"str", "int", "uuid"})
#: Kinds of values that JSON tells apart; values of two types of one kind may be taken for each other.
_KINDS: Final = {"str": "string", "int": "number", "float": "number", "bool": "bool", "none": "null", "list": "array"}
_OBJECTS: Final = frozenset({"model", "typed-dict", "dataclass", "dict", "tagged-union"})


def _walk(schema: Any) -> Iterator[Node]:
    """Yield every node once; a field's name is added to its node."""
    if isinstance(schema, Mapping) and isinstance(schema.get("type"), str):
        yield schema
        for key in _BELOW:
            yield from _walk_all(schema.get(key))


def _walk_all(below: Any) -> Iterator[Node]:
    if isinstance(below, Mapping) and not isinstance(below.get("type"), str):
        for name, item in below.items():
            yield from _walk({"name": name, **item} if isinstance(item, Mapping) else item)
    elif isinstance(below, list | tuple):
        for item in below:
            yield from _walk_all(item)
    else:
        yield from _walk(below)


def _is_lossless(node: Node, definitions: Mapping[str, Node]) -> bool:
    if "serialization" in node or node.get("extra_behavior") == "allow":
        return False
    kind = node["type"]
    check = _CHECKS.get(kind)
    return kind in _LOSSLESS or (check is not None and check(node, definitions))


def _is_lossless_model(node: Node, _: Mapping[str, Node]) -> bool:
    allows_extra = node.get("config", {}).get("extra_fields_behavior") == "allow"
    return not (allows_extra or node.get("custom_init") or node.get("post_init") or node["cls"].__private_attributes__)


def _is_lossless_field(node: Node, _: Mapping[str, Node]) -> bool:
    is_excluded = node.get("serialization_exclude") or node.get("serialization_exclude_if")
    return not (is_excluded or node.get("init") is False or node.get("init_only"))


def _is_lossless_union(node: Node, definitions: Mapping[str, Node]) -> bool:
    """Tell whether the JSON text of a value says which member it is of."""
    if node.get("mode") == "left_to_right":
        return False
    choices = [choice[0] if isinstance(choice, tuple) else choice for choice in node["choices"]]
    kinds = [_kind_of(choice, definitions) for choice in choices]
    turns_nan_to_none = "null" in kinds and any(_is_float(choice, definitions) for choice in choices)
    return None not in kinds and len(set(kinds)) == len(kinds) and not turns_nan_to_none


_CHECKS: Final[dict[str, Callable[[Node, Mapping[str, Node]], bool]]] = {
    "model": _is_lossless_model,
    "dataclass": lambda node, _: not node.get("post_init"),
    "model-field": _is_lossless_field,
    "dataclass-field": _is_lossless_field,
    "typed-dict-field": _is_lossless_field,
    "dict": lambda node, _: node.get("keys_schema", {}).get("type") in _KEYS,
    "nullable": lambda node, definitions: not _is_float(node["schema"], definitions),
    "union": _is_lossless_union,
    "tagged-union": lambda node, _: isinstance(node["discriminator"], str),
    "enum": lambda node, _: all(type(member.value) in {str, int} for member in node["members"]),
    "literal": lambda node, _: all(type(value) in {str, int, bool, NoneType} for value in node["expected"]),
}


def _unwrap(node: Node, definitions: Mapping[str, Node]) -> Node:
    """Return the node of the value itself, inside of defaults, references and root models."""
    if node["type"] == "definition-ref":
        return _unwrap(definitions.get(node["schema_ref"], {"type": "unknown"}), definitions)
    if node["type"] == "default" or node.get("root_model"):
        return _unwrap(node["schema"], definitions)
    return node


def _kind_of(node: Node, definitions: Mapping[str, Node]) -> str | None:
    inner = _unwrap(node, definitions)["type"]
    return "object" if inner in _OBJECTS else _KINDS.get(inner)


def _is_float(node: Node, definitions: Mapping[str, Node]) -> bool:
    """Tell whether the value may be NaN, which Pydantic writes as null."""
    kind: str = _unwrap(node, definitions)["type"]
    return kind == "float"


def _has_default(field: Node) -> bool:
    kind: str = field["schema"]["type"]
    return kind == "default"


def _find_unreadable(node: Node) -> Unstorable | None:
    if node["type"] not in {"model-field", "dataclass-field"} or _has_default(node):
        return None
    if node.get("serialization_exclude"):
        reason = "is excluded from dumps (exclude=True) and has no default, so that no stored value could be read back"
    elif node.get("init_only"):
        reason = "is an InitVar without a default, which no stored value could be read back without"
    else:
        return None
    return Unstorable(node["name"], reason)
