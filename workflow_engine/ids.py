"""Ids: how they are made, and how a thing that has one is named."""

from __future__ import annotations

import secrets
import time
from typing import Protocol
from uuid import UUID


def new_id() -> str:
    """Return a UUIDv7 as text: 48 bits of Unix milliseconds, then 74 random bits (RFC 9562, section 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80
    value |= 0x7 << 76
    value |= secrets.randbits(12) << 64
    value |= 0b10 << 62
    value |= secrets.randbits(62)
    return str(UUID(int=value))


class HasId(Protocol):
    """Anything with an id: a stage, a workflow, a handle of a run."""

    @property
    def id(self) -> str:
        """What it is known by."""


def id_of(named: HasId | str) -> str:
    """Return the id of something that is given by itself or by its id."""
    return named if isinstance(named, str) else named.id
