"""The kinds of wait that this release knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from workflow_engine.engine.waits.poll import PollKind
from workflow_engine.engine.waits.runs import RunsKind
from workflow_engine.errors import DefinitionError

if TYPE_CHECKING:
    from workflow_engine.engine.waits.wait_kind import WaitKind

_ALL: Final[tuple[WaitKind[Any], ...]] = (
    PollKind(),
    RunsKind(),
)
#: By the text that is stored in the column ``suspended_on``.
KINDS: Final = {kind.wait.kind: kind for kind in _ALL}


def find_kind(stored: str | None) -> WaitKind[Any] | None:
    """Return the kind with this stored text; None for a kind of a later release."""
    return KINDS.get(stored or "")


def get_kind(stored: str | None) -> WaitKind[Any]:
    """Return the kind with this stored text.

    Raises:
        DefinitionError: This release has none.
    """
    kind = find_kind(stored)
    if kind is None:
        raise DefinitionError(f'This release knows no wait of the kind "{stored}"')
    return kind
