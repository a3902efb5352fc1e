"""The driver's connection as the store needs it: every call bounded, and nothing left on the session.

A pooler lends a session for one transaction and then to another program, so whatever a transaction needs travels with
it: the isolation level, which the store relies on, and the time limits. They precede its first statement in the same
message, so that they cost no round trip. The same holds without a pooler: a default of the role or the database is
never inherited.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn, cast

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR, connection, cursor
from typing_extensions import override

from workflow_engine.store.connection.call_limits import Limits
from workflow_engine.store.connection.watchdog import Line

if TYPE_CHECKING:
    from collections.abc import Callable


class PostgresConnection(connection):
    """A connection that begins transactions by itself, like any of this driver, but with their settings.

    Attributes:
        limits: The time limits of the transactions to come.
        is_alone: Whether each statement is a transaction of its own.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.limits = Limits()
        self.is_alone = False
        self.cursor_factory = PostgresCursor
        self.autocommit = True  # the driver must not begin transactions by itself
        try:
            self._line = Line(self.fileno())
        except OSError as error:
            raise psycopg2.OperationalError(f"the connection cannot be watched: {error}") from error

    @override
    def commit(self) -> None:
        """Commit the transaction, if there is one.

        Raises:
            psycopg2.InternalError: A statement of it had failed; the server would roll it back and call that a success.
        """
        if self.get_transaction_status() == TRANSACTION_STATUS_INERROR:
            raise psycopg2.InternalError("the transaction cannot be committed: one of its statements has failed")
        self._end("COMMIT")

    @override
    def rollback(self) -> None:
        """Roll the transaction back, if there is one."""
        self._end("ROLLBACK")

    def complete(self, statement: str) -> str:
        """Return the statement with what must precede it."""
        if self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            return statement
        return (self.limits.alone if self.is_alone else self.limits.begin) + statement

    def bound(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Make a call that waits for the server, and cut the connection when it takes too long.

        Raises:
            psycopg2.OperationalError: The server did not answer in time; what became of the call is unknown.
        """
        line = self._line
        line.begin_call(self.limits.call_seconds)
        try:
            return call(*arguments)
        except psycopg2.Error as error:
            if line.was_cut:
                self._say_cut(error)
            raise
        finally:
            line.end_call()

    def _end(self, command: str) -> None:
        if self.closed or self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            with contextlib.closing(self.cursor()) as one:
                one.execute(command)

    def _say_cut(self, error: psycopg2.Error) -> NoReturn:
        problem = f"no answer within {self.limits.call_seconds:.4g} s, so the connection was dropped"
        raise psycopg2.OperationalError(problem) from error


class PostgresCursor(cursor):
    """A cursor of a ``PostgresConnection``."""

    @override
    def execute(self, query: Any, vars: Any = None) -> None:
        """Execute a statement, which begins a transaction where there is none."""
        owner = cast("PostgresConnection", self.connection)
        owner.bound(super().execute, owner.complete(query), vars)

    @override
    def executemany(self, query: Any, vars_list: Any) -> None:
        """Execute a statement for each set of values, in one transaction."""
        owner = cast("PostgresConnection", self.connection)
        if owner.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            owner.bound(super().execute, owner.limits.begin)
        owner.bound(super().executemany, query, vars_list)
