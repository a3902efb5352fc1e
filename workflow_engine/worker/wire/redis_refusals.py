"""Answers of a Redis that is there and does not do its work: treated in workers like a connection that was lost.

After a failover a worker talks to a replica (READONLY) until it looks up the name of the primary again; a Redis that
runs out of memory, cannot write its disk, loads its data or waits for replicas answers likewise, and recovers. Celery
takes the answer for a mistake of the program, and ends the worker.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Final

from redis import exceptions

#: Answers that redis-py has a class for; those to LOADING and NOAUTH are connection errors there.
_CLASSES: Final = (exceptions.ReadOnlyError, exceptions.OutOfMemoryError, exceptions.ClusterDownError)
#: Others, by the word they begin with. UNBLOCKED tells a waiting consumer that its primary has become a replica.
_WORDS: Final = ("BUSY ", "MISCONF ", "NOREPLICAS ", "TRYAGAIN ", "UNBLOCKED ")

#: A list that never exists: to push to it if it does is a write that changes nothing.
_PROBE: Final = "workflow_engine.probe"

_worker_pid = 0


def mark_consuming_process() -> None:
    """Turn refusals into lost connections from now on, in this process alone: it is about to consume messages."""
    global _worker_pid  # noqa: PLW0603 - what kind of process this is
    _worker_pid = os.getpid()


def is_consuming_process() -> bool:
    """Whether this process, and no parent of it, consumes messages."""
    return _worker_pid == os.getpid()


def is_refusal(error: exceptions.ResponseError) -> bool:
    """Whether the answer is about the server and not about the command."""
    return isinstance(error, _CLASSES) or str(error).startswith(_WORDS)


def check_writes(channel: Any) -> None:
    """Raise the error of a Redis that answers and accepts no write; changes nothing there."""
    if hasattr(channel, "conn_or_acquire"):
        # A user that may not touch this key says nothing about the others.
        with channel.conn_or_acquire() as client, suppress(exceptions.NoPermissionError):
            client.rpushx(f"{channel.global_keyprefix}{_PROBE}", "")


def close_on_refusal(connection_class: type[Any]) -> type[Any]:
    """Return a class of redis-py's connections that a refusal closes, in the process that consumes messages.

    The next use opens a new one, to the server that the name stands for by then.
    """

    class ClosedOnRefusal(connection_class):  # type: ignore[misc]
        def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return super().read_response(*args, **options)
            except exceptions.ResponseError as error:
                if not is_consuming_process() or not is_refusal(error):
                    raise
                self.disconnect()
                raise exceptions.ConnectionError(f"Redis refuses to work: {error}") from error

    return ClosedOnRefusal
