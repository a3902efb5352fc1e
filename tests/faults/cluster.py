"""Everything a campaign runs on, as processes of its own: PostgreSQL, Redis, workers with their pools, beats."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

from tests.faults.proxy import READY
from workflow_engine.clock import SystemClock
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema import revisions as schema
from workflow_engine.testing.pgbouncer import PgBouncerServer
from workflow_engine.testing.processes import free_port
from workflow_engine.testing.services import PostgresServer, RedisServer

if TYPE_CHECKING:
    from datetime import timedelta

ROOT = Path(__file__).parents[2]
APP = "tests.faults.worker_app"
#: A warm end takes the shutdown grace, and a little for what a loaded machine adds.
STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Pace:
    """How fast a campaign lives: short leases make faults take effect within seconds."""

    lease: float = 3.0
    sweep_interval: float = 0.5
    dispatch_slack: float = 1.0
    shutdown_grace: float = 4.0
    long_stage: float = 9.0

    def environment(self) -> dict[str, str]:
        return {
            "WORKFLOW_ENGINE_LEASE": str(self.lease),
            "WORKFLOW_ENGINE_SWEEP_INTERVAL": str(self.sweep_interval),
            "WORKFLOW_ENGINE_DISPATCH_SLACK": str(self.dispatch_slack),
            "WORKFLOW_ENGINE_SHUTDOWN_GRACE": str(self.shutdown_grace),
            "WORKFLOW_ENGINE_MIN_POLL_INTERVAL": "0.1",
            "FAULTS_LONG_SECONDS": str(self.long_stage),
        }


@dataclass
class Member:
    """A worker or beat: its main process leads a session, so that it and its pool can be signalled as one."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    #: Set while a fault ends it: an end at any other time is a violation.
    may_end: bool = False
    exits: list[int] = field(default_factory=list)
    #: How long the log was when it was last started.
    log_begins: int = 0

    def start(self) -> None:
        self.log_begins = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.may_end = False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[int]:
        """Return the processes of the pool."""
        with suppress(FileNotFoundError):
            listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
            return [int(pid) for pid in listed.split()]
        return []

    def signal(self, number: int) -> None:
        """Signal the main process alone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        """Signal the main process and its pool."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end of the main process and return its exit code; kill it when it takes too long."""
        assert self.process is not None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal_all(signal.SIGKILL)
            code = self.process.wait()
        self.exits.append(code)
        return code

    def is_ready(self) -> bool:
        """Whether the worker consumes; Celery ends a worker whose pool loses a process before that."""
        return " ready." in self.read_log()[self.log_begins :]

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        self.may_end = True
        self.signal_all(signal.SIGCONT)
        self.signal_all(signal.SIGKILL)
        self.wait()

    def read_log(self) -> str:
        return self.log.read_bytes().decode("ascii", errors="replace") if self.log.exists() else ""


class ProxyProcess:
    """A context manager: a proxy in front of the database, as a process of its own."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port = free_port()

    @property
    def url(self) -> str:
        """The database's URL by way of the proxy."""
        user, _, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}@127.0.0.1:{self._port}"))

    def forget(self) -> None:
        """Neither answer nor close the connections that exist now."""
        self._process.send_signal(signal.SIGUSR1)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.faults.proxy", str(self._target.port), str(self._port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == READY
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Cluster:
    """A context manager: the servers are up, with an empty schema, when it is entered; all is gone when it is left."""

    def __init__(
        self, pace: Pace | None = None, *, workers: int = 2, beats: int = 2, ablation: str | None = None
    ) -> None:
        self.pace = pace or Pace()
        self.postgres = PostgresServer()
        self.redis = RedisServer()
        self.clock = SystemClock()
        self._names = [f"worker-{n}" for n in range(1, workers + 1)], [f"beat-{n}" for n in range(1, beats + 1)]
        self._ablation = ablation
        self._stack = ExitStack()
        self.workers: list[Member] = []
        self.beats: list[Member] = []

    def __enter__(self) -> Self:
        with self._stack:
            self.home = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
            self._stack.enter_context(self.postgres)
            self._stack.enter_context(self.redis)
            url = self.postgres.create_database("faults")
            self.proxy = self._stack.enter_context(ProxyProcess(url))
            self.environment = self._environment(url)
            self.settings = Settings.load(
                database_url=url,
                broker_url=self.redis.url(),
                lease=self.pace.lease,
                sweep_interval=self.pace.sweep_interval,
                dispatch_slack=self.pace.dispatch_slack,
            )
            self.database = Database(url)
            self._stack.callback(self.database.close)
            schema.upgrade(self.database)
            ways = cycle([self.proxy.url, self._stack.enter_context(PgBouncerServer(self.postgres)).url(url)])
            self.workers = [self._worker(name, way) for name, way in zip(self._names[0], ways, strict=False)]
            self.beats = [self._beat(name) for name in self._names[1]]
            self._stack.callback(self._kill_members)
            for member in self.members:
                member.start()
            self._kept = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    @property
    def members(self) -> list[Member]:
        return [*self.workers, *self.beats]

    @property
    def ledger(self) -> Path:
        return self.home / "ledger"

    def pause(self, duration: timedelta) -> None:
        self.clock.sleep(duration)

    def _environment(self, url: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_ENGINE_")}
        ablation = {"FAULTS_ABLATION": self._ablation} if self._ablation else {}
        return {
            **inherited,
            **self.pace.environment(),
            **ablation,
            "WORKFLOW_ENGINE_DATABASE_URL": url,
            "WORKFLOW_ENGINE_BROKER_URL": self.redis.url(),
            "FAULTS_LEDGER": str(self.ledger),
            "PYTHONPATH": str(ROOT),
        }

    def _worker(self, name: str, database_url: str) -> Member:
        options = ["worker", "--concurrency=2", f"--hostname={name}@%h", "--loglevel=INFO"]
        member = self._member(name, options)
        member.environment = {**member.environment, "WORKFLOW_ENGINE_DATABASE_URL": database_url}
        return member

    def _beat(self, name: str) -> Member:
        schedule = self.home / f"{name}.schedule"
        return self._member(name, ["beat", f"--schedule={schedule}", "--pidfile=", "--loglevel=INFO"])

    def _member(self, name: str, options: list[str]) -> Member:
        command = [sys.executable, "-m", "celery", "-A", APP, *options]
        return Member(name, command, self.environment, self.home / f"{name}.log")

    def _kill_members(self) -> None:
        for member in self.members:
            if member.process is not None and not member.has_ended():
                member.kill()
