"""Names: which ones a queue may have, and what an error says about a name that nothing has."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A regular expression for the whole of it. Brokers allow more; the names of Redis keys and of the companion queues are
#: made of it.
QUEUE_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"

_MOST_SHOWN: Final = 20


def among(name: object, known: Iterable[str], *, kind: str) -> str:
    """Return `` (did you mean "extract"? stages: extract, classify)``, to be put behind the refusal.

    Args:
        name: The name that was asked for.
        known: The names that exist, in the order in which they are to be read.
        kind: The noun for them: ``stages``, ``fields of AIConfig``.
    """
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(str(name), names, n=1)
    question = f'did you mean "{near[0]}"? ' if near else ""
    rest = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f" ({question}{kind}: {', '.join(names[:_MOST_SHOWN]) or 'none'}{rest})"
