"""Time limits of a call: those that the server is told with each transaction, and that of the client."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Final

from workflow_engine.clock import to_milliseconds


@dataclass(frozen=True)
class Limits:
    """Time limits of one transaction on PostgreSQL; zero is no limit."""

    #: One statement; the server cancels it.
    statement: timedelta = timedelta(seconds=30)
    #: The wait for one lock; the server gives up.
    lock: timedelta = timedelta(seconds=5)
    #: A pause inside a transaction: a worker that is stopped in the middle of one would otherwise hold the lock of its
    #: run until it dies.
    idle: timedelta = timedelta(seconds=10)

    def within(self, duration: timedelta) -> Limits:
        """Return limits under which a statement takes ``duration`` at most."""
        return replace(self, statement=min(self.statement, duration), lock=min(self.lock, duration))

    @cached_property
    def call_seconds(self) -> float:
        """How long one call waits for the server before its connection is dropped; a little above the server's limit."""
        return self.statement.total_seconds() * 1.2 or float("inf")

    @cached_property
    def alone(self) -> str:
        """The settings in front of a statement that is a transaction of its own, in the same message.

        The statements of one message are one transaction, so the settings end with it: the session may belong to a
        pooler, which lends it for this transaction only.
        """
        return f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {self._settings}"

    @cached_property
    def begin(self) -> str:
        """BEGIN and the settings in front of the first statement of a transaction, in the same message."""
        idle = f"SET LOCAL idle_in_transaction_session_timeout = {to_milliseconds(self.idle)}; "
        return f"BEGIN ISOLATION LEVEL READ COMMITTED; {self._settings}{idle}"

    @cached_property
    def _settings(self) -> str:
        return (
            f"SET LOCAL lock_timeout = {to_milliseconds(self.lock)}; "
            f"SET LOCAL statement_timeout = {to_milliseconds(self.statement)}; "
        )


#: For migrations, which may wait for one another and rewrite large tables.
UNLIMITED: Final = Limits(timedelta(0), timedelta(0), timedelta(0))
