"""Annotations: searchable facts that a stage attaches to its run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from workflow_engine.payloads.schemas import Schema
from workflow_engine.payloads.text import decode_json, encode_json

T = TypeVar("T")

_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_KEY: Final = 200


@dataclass(frozen=True, slots=True)
class AnnotationKey(Generic[T]):
    """A typed annotation: a name with a namespace, and the type of its value.

    Example:
        ``LANGUAGE = AnnotationKey("document.language", str)``; then ``ctx.annotate(LANGUAGE, "en")``.

    Raises:
        ValueError: The name has no namespace (``"a.b"``) or other characters than letters, digits, ``_``, ``-``.
    """

    name: str
    type: type[T]
    schema: Schema[T] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_annotation_name(self.name)
        if "." not in self.name:
            raise ValueError(f'annotation key {self.name!r} needs a namespace, like "document.{self.name}"')
        object.__setattr__(self, "schema", Schema.of(self.type))


def check_annotation_name(name: object) -> None:
    """Refuse names that are not words joined by dots.

    Raises:
        ValueError: The name is refused.
    """
    if not isinstance(name, str) or len(name) > _LONGEST_KEY or _KEY.fullmatch(name) is None:
        raise ValueError(
            f"annotation key {name!r} must be words of letters, digits, _ and - joined by dots, "
            f"at most {_LONGEST_KEY} characters"
        )


def to_annotation(key: str | AnnotationKey[Any], value: object) -> tuple[str, Any]:
    """Return the checked name and plain JSON value of an annotation.

    Raises:
        ValueError: The name is refused.
        InvalidDataError: The value is not of the key's type.
        PayloadError: It cannot be stored as JSON.
    """
    if isinstance(key, AnnotationKey):
        what = f'annotation "{key.name}"'
        return key.name, decode_json(key.schema.store(value, what=what))
    check_annotation_name(key)
    return key, decode_json(encode_json(value, what=f'annotation "{key}"'))
