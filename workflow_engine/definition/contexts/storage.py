"""Artifacts: named extra results of a stage, or of the whole run."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from pydantic import BaseModel

from workflow_engine.errors import ArtifactNotFoundError
from workflow_engine.payloads.schemas import Schema
from workflow_engine.payloads.text import decode_json, encode_json

if TYPE_CHECKING:
    from workflow_engine.definition.contexts.port import ContextPort

T = TypeVar("T")

MAX_KEY_LENGTH: Final = 512

_DRIVE: Final = re.compile(r"[A-Za-z]:")


class StageStorage:
    """Named values that outlive the attempt. Keys belong to the stage; ``.shared`` is the scope of the whole run.

    Keys look like relative paths: ``pages/1.json``. Values belong to the stage run that saved them: later attempts find
    them, a rerun of the stage begins with none, and a fork has those of the stage runs whose outputs it shares. Of a
    shared key the value counts that was saved last by a stage run which no rerun has replaced.
    """

    __slots__ = ("_is_shared", "_port")

    def __init__(self, port: ContextPort, *, is_shared: bool = False) -> None:
        self._port = port
        self._is_shared = is_shared

    @property
    def shared(self) -> StageStorage:
        """The scope that all stages of the run read and write."""
        return StageStorage(self._port, is_shared=True)

    def save(self, key: str, value: object) -> None:
        """Store a JSON value, a model or a dataclass under ``key``; replaces what was there.

        Raises:
            ValueError: ``key`` is not a relative path.
            PayloadError: ``value`` cannot be stored as JSON.
        """
        check_artifact_key(key)
        self._port.save_artifact(key, encode_value(value, what=f'artifact "{key}"'), shared=self._is_shared)

    @overload
    def load(self, key: str) -> Any: ...

    @overload
    def load(self, key: str, tp: type[T]) -> T: ...

    def load(self, key: str, tp: type[T] | None = None) -> T | Any:
        """Return the value under ``key``, parsed as ``tp`` if given.

        Raises:
            ArtifactNotFoundError: Nothing is stored under ``key``.
            InvalidDataError: It is not a ``tp``.
        """
        check_artifact_key(key)
        text = self._port.load_artifact(key, shared=self._is_shared)
        if text is None:
            raise ArtifactNotFoundError(f"There is no artifact {key!r}")
        return decode_json(text) if tp is None else Schema.of(tp).decode(text, what=f'artifact "{key}"')

    def exists(self, key: str) -> bool:
        """Tell whether something is stored under ``key``."""
        check_artifact_key(key)
        return self._port.load_artifact(key, shared=self._is_shared) is not None

    def delete(self, key: str) -> bool:
        """Remove ``key``; tell whether it was there."""
        check_artifact_key(key)
        return self._port.delete_artifact(key, shared=self._is_shared)

    def list(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with ``prefix``, sorted."""
        if prefix:
            check_artifact_key(prefix.removesuffix("/"))
        return self._port.list_artifacts(prefix, shared=self._is_shared)


def check_artifact_key(key: object) -> None:
    """Refuse keys that are not plain relative paths.

    Raises:
        TypeError: ``key`` is not a string.
        ValueError: It is empty, too long, absolute, or has a part that leads elsewhere.
    """
    if not isinstance(key, str):
        raise TypeError(f"an artifact key must be a string, not {type(key).__name__}")
    reason = _refuse_key(key)
    if reason is not None:
        raise ValueError(f"artifact key {key[:80]!r} {reason}")


def _refuse_key(key: str) -> str | None:
    parts = key.split("/")
    if not key or len(key) > MAX_KEY_LENGTH:
        return f"must have 1 to {MAX_KEY_LENGTH} characters, got {len(key)}"
    if not key.isprintable() or "\\" in key:
        return "has a control character, a lone surrogate or a backslash"
    if key.startswith(("/", "~")) or _DRIVE.match(key):
        return "is absolute; keys are relative paths"
    if any(part in {"", ".", ".."} for part in parts):
        return "has an empty part, '.' or '..'"
    return None


def encode_value(value: object, *, what: str) -> str:
    """Return a JSON value, a model or a dataclass as JSON text; raises PayloadError, which names ``what``."""
    if isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type)):
        return Schema.of(type(value)).store(value, what=what)
    return encode_json(value, what=what)
