"""Which of Celery's pools can execute stages: those of processes and threads, not those of greenlets.

Greenlets share one thread. While a stage waits for the database, or calls anything that does not yield, they all stand
still, heartbeats of leases included; threads are greenlets as well, so that no time limit and no event loop would work.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from click import ClickException

from workflow_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection

logger = logging.getLogger("workflow_engine.worker")


class WorkerRefusedError(ConfigurationError, ClickException):
    """The worker does not start; the command line shows the message alone."""


def is_green(pool: Any) -> bool:
    """Whether a pool, or the class of one, runs tasks in greenlets."""
    return bool(getattr(pool, "is_green", False))


def leave_out_queues(worker: Any, engine_queues: Collection[str]) -> None:
    """Keep a worker whose pool is of greenlets from consuming the engine's queues, and say so in one line.

    Nothing happens where it consumes none of them; its own queues are served as usual.

    Raises:
        WorkerRefusedError: It would consume nothing else.
    """
    queues: Any = worker.app.amqp.queues
    left_out = [name for name in engine_queues if name in queues.consume_from]
    if not is_green(worker.pool_cls) or not left_out:
        return
    pool = worker.pool_cls.__module__.rpartition(".")[2]
    problem = f"workflow stages cannot be executed by the {pool} pool"
    instead = f"start a worker for them with --pool=prefork or --pool=threads and -Q {','.join(left_out)}"
    if set(left_out) == set(queues.consume_from):
        raise WorkerRefusedError(f"{problem}: {instead}")
    queues.deselect(left_out)
    logger.error("%s, so this worker consumes only its other queues: %s", problem, instead)


def check_sweeper(worker: Any, *, with_sweeper: bool) -> None:
    """Refuse what a pool of greenlets cannot do and was asked for by name.

    Raises:
        WorkerRefusedError: A sweeper was asked for.
    """
    if with_sweeper and is_green(worker.pool_cls):
        raise WorkerRefusedError("--with-sweeper needs --pool=prefork or --pool=threads: greenlets would wait for it")
