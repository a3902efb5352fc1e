"""The input of a stage that follows a parallel group: every member's output, keyed by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pydantic_core import core_schema

from workflow_engine.errors import StageSkipped
from workflow_engine.payloads.text import decode_json

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

    from workflow_engine.definition.stages.stage import Stage

O = TypeVar("O")  # noqa: E741 - an output
D = TypeVar("D")


class GroupOutput(Mapping[Any, Any]):
    """The outputs of a parallel group, read-only and parsed when asked for.

    Each access parses anew, so changing what one reader got does not change what the next one gets. Iteration
    goes over the ids of the members that have an output; skipped members are left out.

    Example:
        ``ctx.input[classify]`` is a ``Labels``; ``ctx.input["classify"]`` is the same, untyped.

    Args:
        texts: JSON text of each member's output, keyed by stage id; a skipped member is absent.
        stages: The members.
    """

    __slots__ = ("_stages", "_texts")

    def __init__(self, texts: Mapping[str, str], stages: Mapping[str, Stage[Any, Any]]) -> None:
        self._texts = dict(texts)
        self._stages = dict(stages)

    @overload
    def __getitem__(self, key: Stage[Any, O]) -> O: ...

    @overload
    def __getitem__(self, key: str) -> Any: ...

    def __getitem__(self, key: Stage[Any, Any] | str) -> Any:
        """Return the output of a member.

        Raises:
            StageSkipped: The member was skipped and has no output.
            KeyError: The stage is not a member of the group.
        """
        stage_id = _id_of(key)
        if stage_id in self._texts:
            return self._parse(stage_id)
        if stage_id in self._stages:
            raise StageSkipped(f'Stage "{stage_id}" was skipped and has no output')
        raise KeyError(f'Stage "{stage_id}" is not in the previous group ({", ".join(self._stages)})')

    @overload
    def get(self, key: Stage[Any, O], /) -> O | None: ...

    @overload
    def get(self, key: Stage[Any, O], default: D, /) -> O | D: ...

    @overload
    def get(self, key: str, default: Any = None, /) -> Any: ...

    def get(self, key: Stage[Any, Any] | str, default: Any = None, /) -> Any:
        """Return the output of a member, or ``default`` where it was skipped or is not a member."""
        return self[key] if _id_of(key) in self._texts else default

    def __contains__(self, key: object) -> bool:
        """Tell whether a member (a stage or its id) has an output."""
        return _id_of(key) in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"GroupOutput({', '.join(self._texts)})"

    def _parse(self, stage_id: str) -> Any:
        stage = self._stages.get(stage_id)
        text = self._texts[stage_id]
        return decode_json(text) if stage is None else stage.output.decode(text, what=f'output of stage "{stage_id}"')

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Let it stand as a type; the engine builds the value itself."""
        return core_schema.is_instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe it as an object of any members."""
        return {"type": "object", "title": "GroupOutput"}


def _id_of(key: object) -> object:
    return key if isinstance(key, str) else getattr(key, "id", key)
