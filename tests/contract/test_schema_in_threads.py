"""Threads of one process may each bring a database of their own up to date."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema

THREADS = 8


def test_threads_migrate_databases_of_their_own_at_the_same_time() -> None:
    barrier = threading.Barrier(THREADS)

    def migrate(_: int) -> str | None:
        database = Database("sqlite://")
        barrier.wait()
        schema.upgrade(database)
        return schema.current_revision(database)

    with ThreadPoolExecutor(THREADS) as pool:
        revisions = list(pool.map(migrate, range(THREADS)))

    assert revisions == [schema.HEAD] * THREADS
