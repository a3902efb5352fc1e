"""Priorities of runs: the scale, the default, and the refusal of everything that is not on the scale."""

from __future__ import annotations

from typing import Final

from workflow_engine.errors import InvalidPriorityError

LOWEST_PRIORITY: Final = 0
#: Of runs where neither the caller, nor the registry, nor the workflow names one.
DEFAULT_PRIORITY: Final = 5
#: Work of this priority is taken first.
HIGHEST_PRIORITY: Final = 10
#: Hints that were lost are sent again with this one, so that no other work is taken before them.
RECOVERY_PRIORITY: Final = HIGHEST_PRIORITY
#: Polls are sent with at least this one. A run of a low priority may wait for as long as there is other work, but the
#: work that it has already started elsewhere is done, is paid for, and has a time limit.
LOWEST_POLL_PRIORITY: Final = DEFAULT_PRIORITY


def check_priority(value: object, *, name: str = "priority") -> int:
    """Return a priority; True and False are none.

    Raises:
        InvalidPriorityError: It is not a whole number of the scale.
    """
    if isinstance(value, int) and not isinstance(value, bool) and LOWEST_PRIORITY <= value <= HIGHEST_PRIORITY:
        return int(value)
    scale = f"{LOWEST_PRIORITY} (least) to {HIGHEST_PRIORITY} (most important)"
    raise InvalidPriorityError(f"{name} must be a whole number from {scale}, got {value!r}")
