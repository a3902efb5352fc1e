"""The faults: each is injected, lasts a while, and is taken back; what it broke is the engine's to repair."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg2
import redis

from tests.faults.verdict import select
from workflow_engine.worker.names import control_queue
from workflow_engine.worker.wire.broker_priorities import STEPS, list_name

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.faults.cluster import Cluster, Member

#: kombu's own.
SEPARATOR = "\x06\x16"
#: Messages of the past that may come again.
MOST_REPLAYED = 80
#: Longer lists are left alone: doubled again and again they would be all that workers see.
MOST_DOUBLED = 60
_NO_BASE64 = (
    '{"body": "%%%", "headers": {}, "properties": {"delivery_tag": "x", "body_encoding": "base64",'
    ' "delivery_info": {"exchange": "", "routing_key": "workflow"}}}'
)
_BODY_IS_AN_OBJECT = (
    '{"body": {}, "headers": {"task": "workflow_engine.execute_stage", "id": "x"}, "content-type": "application/json",'
    ' "content-encoding": "utf-8", "properties": {"delivery_tag": "y",'
    ' "delivery_info": {"exchange": "", "routing_key": "workflow"}}}'
)
#: Entries that no Celery client writes; each ends an unguarded worker or puts it into a crash loop.
GARBAGE = [
    *("", "not json", "null", "[]", "7", "\x00\x01\x02", '"text"', "{}", '{"body": 1}', "[" * 100_000),
    _NO_BASE64,
    _BODY_IS_AN_OBJECT,
]


class Chaos:
    """Injects faults into a cluster; every choice is the random generator's, so a seed tells the whole story."""

    def __init__(self, cluster: Cluster, random: random.Random) -> None:
        self._cluster = cluster
        self._random = random
        self._seen: list[bytes] = []
        self.extra_messages = 0

    def kill_pool_child(self) -> bool:
        """SIGKILL one process of a pool."""
        worker = self._worker()
        child = self._busy_child(worker)
        if child is None or not worker.is_ready():
            return False
        _signal(child, signal.SIGKILL)
        return True

    def kill_main(self) -> None:
        """SIGKILL a worker's main process; its orphans live on until they notice."""
        worker = self._worker()
        worker.may_end = True
        worker.signal(signal.SIGKILL)
        self._wait(0.2, 2)
        worker.kill()
        self._wait(0, 2)
        worker.start()

    def kill_worker(self) -> None:
        """SIGKILL a worker and its pool at once: a host that is gone."""
        self._kill(self._worker())

    def kill_all_workers(self) -> None:
        """SIGKILL every worker and every pool."""
        for worker in self._cluster.workers:
            worker.kill()
        self._wait(0, 2)
        for worker in self._cluster.workers:
            worker.start()

    def stall_pool_child(self) -> bool:
        """SIGSTOP one process of a pool for longer than a lease; it goes on afterwards and reports its result."""
        child = self._busy_child(self._worker())
        if child is None:
            return False
        _signal(child, signal.SIGSTOP)
        self._stall()
        _signal(child, signal.SIGCONT)
        return True

    def stall_worker(self) -> None:
        """SIGSTOP a worker and its pool for longer than a lease."""
        worker = self._worker()
        worker.signal_all(signal.SIGSTOP)
        self._stall()
        worker.signal_all(signal.SIGCONT)

    def flush_redis(self) -> None:
        """FLUSHALL: every message is lost."""
        with self._redis() as client:
            client.flushall()

    def kill_redis(self) -> None:
        """SIGKILL Redis; it comes back empty."""
        self._cluster.redis.kill()
        self._wait(0, 3)
        self._cluster.redis.start()

    def crash_postgres(self) -> None:
        """Stop PostgreSQL at once, as a crash does; it recovers at its next start."""
        self._cluster.postgres.stop_immediate()
        self._wait(0, 8)
        self._cluster.postgres.start()

    def terminate_connections(self) -> None:
        """pg_terminate_backend for every connection of the engine."""
        url = self._cluster.postgres.url().replace("+psycopg2", "", 1)
        with closing(psycopg2.connect(url, connect_timeout=5)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'workflow_engine:%'"
            )

    def forget_connections(self) -> None:
        """Answer nothing on the database connections that the first worker has now, and do not close them either."""
        self._cluster.proxy.forget()

    def refuse_writes(self) -> None:
        """Let PostgreSQL be read only for a while, as after a switchover or with a full disk."""
        self._set_read_only("on")
        self._wait(1, 8)
        self._set_read_only("off")

    def _set_read_only(self, value: str) -> None:
        url = self._cluster.postgres.url().replace("+psycopg2", "", 1)
        with closing(psycopg2.connect(url, connect_timeout=5)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SET default_transaction_read_only = off")
                cursor.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
                cursor.execute("SELECT pg_reload_conf()")

    def demote_redis(self) -> None:
        """Let Redis be a read-only replica of nobody for a while: it answers READONLY."""
        with self._redis() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            self._wait(1, 6)
            client.execute_command("REPLICAOF", "NO", "ONE")

    def fill_redis(self) -> None:
        """Let Redis have no memory left for a while: it answers OOM to every write."""
        with self._redis() as client:
            client.config_set("maxmemory", "1")
            self._wait(1, 6)
            client.config_set("maxmemory", "0")

    def double_messages(self) -> None:
        """Deliver again what waits, and what waited before."""
        with self._redis() as client:
            for key in self._keys():
                waiting = client.lrange(key, 0, -1) if client.llen(key) < MOST_DOUBLED else []
                self._seen = [*self._seen, *waiting][-MOST_REPLAYED:]
                self._push(client, key, waiting)
            past = self._random.sample(self._seen, min(len(self._seen), MOST_REPLAYED // 4))
            self._push(client, self._random.choice(self._keys()[1:]), past)

    def _push(self, client: Any, key: str, entries: list[bytes]) -> None:
        for entry in entries:
            push = client.lpush if self._random.random() < 0.5 else client.rpush
            push(key, entry)
            self.extra_messages += 1

    def push_garbage(self) -> None:
        """Put entries into the lists that no client would write."""
        with self._redis() as client:
            for entry in self._random.sample(GARBAGE, 4):
                client.rpush(self._random.choice(self._keys()), entry)
                self.extra_messages += 1

    def forge_messages(self) -> None:
        """Send hints for stage runs that do not exist, have ended, or with numbers that were never given."""
        rows = select(self._cluster.database, "SELECT id FROM workflow_stages ORDER BY random() LIMIT 20")
        known = [row.id for row in rows]
        with self._redis() as client:
            for stage_run_id in [*known, str(uuid4()), str(uuid4())]:
                number = self._random.choice([1, 2, 7, 2**31 - 1])
                client.lpush(self._cluster.settings.queue, forge(stage_run_id, number, self._cluster.settings.queue))
                self.extra_messages += 1

    def kill_beat(self) -> None:
        """SIGKILL one beat; the other one, or the workers, go on sweeping."""
        self._kill(self._random.choice(self._cluster.beats))

    def kill_beats(self) -> None:
        """SIGKILL both beats for a while: the workers sweep."""
        for beat in self._cluster.beats:
            beat.kill()
        self._wait(3, 6)
        for beat in self._cluster.beats:
            beat.start()

    def restart_worker(self) -> bool:
        """SIGTERM: a warm end, as in a deployment; it must end with 0. Before Celery listens it would just end."""
        worker = self._worker()
        if not worker.is_ready():
            return False
        worker.may_end = True
        worker.signal(signal.SIGTERM)
        worker.wait()
        worker.start()
        return True

    def _kill(self, member: Member) -> None:
        member.kill()
        self._wait(0, 3)
        member.start()

    def _worker(self) -> Member:
        return self._random.choice(self._cluster.workers)

    def _busy_child(self, worker: Member) -> int | None:
        """Return a process of the pool, one that executes a stage if there is one."""
        children = worker.children()
        rows = select(self._cluster.database, "SELECT worker_id FROM workflow_stages WHERE lease_id IS NOT NULL")
        busy = sorted({int(row.worker_id.split(":")[1]) for row in rows}.intersection(children))
        return self._random.choice(busy or children) if children else None

    def _stall(self) -> None:
        lease = self._cluster.pace.lease
        self._wait(lease * 1.2, lease * 2)

    def _wait(self, least: float, most: float) -> None:
        self._cluster.pause(timedelta(seconds=self._random.uniform(least, most)))

    def _redis(self) -> Any:
        return redis.Redis.from_url(self._cluster.redis.url())

    def _keys(self) -> list[str]:
        queue = self._cluster.settings.queue
        return [control_queue(queue), *(list_name(queue, step, SEPARATOR) for step in range(STEPS))]


def forge(stage_run_id: str, number: int, queue: str) -> str:
    """Return the entry that a publisher would have written for the hint."""
    return json.dumps(
        {
            "body": json.dumps([[stage_run_id, number], {}, {}]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": "workflow_engine.execute_stage", "id": f"forged-{uuid4()}"},
            "properties": {
                "delivery_tag": str(uuid4()),
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
            },
        }
    )


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


#: Every fault, by name, with how often it is chosen; one that returns False found nothing to break.
FAULTS: dict[str, tuple[Callable[[Chaos], bool | None], int]] = {
    "kill a pool child": (Chaos.kill_pool_child, 6),
    "kill a main process": (Chaos.kill_main, 2),
    "kill a worker": (Chaos.kill_worker, 2),
    "kill all workers": (Chaos.kill_all_workers, 1),
    "stall a pool child": (Chaos.stall_pool_child, 3),
    "stall a worker": (Chaos.stall_worker, 2),
    "flush Redis": (Chaos.flush_redis, 3),
    "kill Redis": (Chaos.kill_redis, 2),
    "crash PostgreSQL": (Chaos.crash_postgres, 2),
    "terminate connections": (Chaos.terminate_connections, 3),
    "forget connections": (Chaos.forget_connections, 1),
    "refuse writes": (Chaos.refuse_writes, 2),
    "demote Redis": (Chaos.demote_redis, 1),
    "fill Redis": (Chaos.fill_redis, 1),
    "double messages": (Chaos.double_messages, 5),
    "push garbage": (Chaos.push_garbage, 3),
    "forge messages": (Chaos.forge_messages, 4),
    "kill a beat": (Chaos.kill_beat, 2),
    "kill both beats": (Chaos.kill_beats, 1),
    "restart a worker": (Chaos.restart_worker, 2),
}
