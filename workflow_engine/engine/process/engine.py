"""The engine: the settings, connections and threads that every command needs, one per process."""

from __future__ import annotations

import os
import random
import secrets
import socket
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from workflow_engine.clock import Clock, SystemClock
from workflow_engine.engine.process.body_runner import BodyRunner
from workflow_engine.engine.process.lease_keeper import LeaseKeeper
from workflow_engine.store.connection.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.definition import Registry
    from workflow_engine.engine.process.dispatcher import Dispatcher
    from workflow_engine.payloads.secrets import Redactor
    from workflow_engine.settings import Settings


#: Forked processes inherit it. Containers may share the name of their host, and number their processes alike.
_FAMILY = secrets.token_hex(3)


@dataclass(frozen=True)
class Engine:
    """Everything that the commands of the engine work with. Close it when the process ends."""

    database: Database
    registry: Registry
    dispatcher: Dispatcher
    settings: Settings
    clock: Clock
    #: ``host:pid:random``; names the owner of leases and attempts.
    worker_id: str
    keeper: LeaseKeeper
    bodies: BodyRunner
    redactor: Redactor
    #: Source of jitter, in [0, 1).
    random: Callable[[], float] = field(default=random.random)

    @classmethod
    def build(
        cls,
        *,
        settings: Settings,
        registry: Registry,
        dispatcher: Dispatcher,
        database: Database | None = None,
        clock: Clock | None = None,
        worker_id: str | None = None,
    ) -> Engine:
        """Wire an engine for this process."""
        clock = clock or SystemClock()
        database = database or Database(settings.database_url, pool_size=settings.pool_size, clock=clock)
        return cls(
            database=database,
            registry=registry,
            dispatcher=dispatcher,
            settings=settings,
            clock=clock,
            worker_id=worker_id or new_worker_id(),
            keeper=LeaseKeeper(database, clock, settings.lease),
            bodies=BodyRunner(),
            redactor=settings.redactor,
        )

    def after_fork(self) -> Engine:
        """Return the engine for this forked process: no connection, thread or id is shared with the parent."""
        self.database.forget_connections()
        return replace(
            self,
            worker_id=new_worker_id(),
            keeper=LeaseKeeper(self.database, self.clock, self.settings.lease),
            bodies=BodyRunner(),
        )

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.keeper.stop()
        self.bodies.stop()
        self.database.close()


def new_worker_id() -> str:
    """Return ``host:pid:random`` for this process."""
    return f"{worker_id_prefix(os.getpid())}{secrets.token_hex(3)}"


def worker_id_prefix(pid: int) -> str:
    """Return how the worker ids of that process begin: this one, or one that it, or its parent, forked."""
    return f"{socket.gethostname()}:{pid}:{_FAMILY}"
