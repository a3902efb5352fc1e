"""A real PgBouncer for tests, in transaction mode: many clients take turns on a few sessions of PostgreSQL."""

from __future__ import annotations

import signal
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from typing_extensions import override

from workflow_engine.testing import processes
from workflow_engine.testing.servers import MissingServiceError, Server

if TYPE_CHECKING:
    from pathlib import Path

    from workflow_engine.testing.services import PostgresServer

DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


class PgBouncerServer(Server):
    """A PgBouncer in front of a PostgreSQL server, whose role it logs in with.

    Args:
        postgres: The server, which runs already.
        pool_size: Sessions for each database.
    """

    name = "pgbouncer"

    def __init__(self, postgres: PostgresServer, *, pool_size: int = 4) -> None:
        super().__init__()
        self._postgres = postgres
        self._pool_size = pool_size

    def url(self, direct: str | None = None) -> str:
        """Return the SQLAlchemy URL of a database; ``direct`` is its URL without PgBouncer."""
        parts = urlsplit(direct or self._postgres.url())
        return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self._port}"))

    @override
    def stop(self) -> None:
        """End the server at once; what its clients have begun is rolled back."""
        self._end(signal.SIGTERM)

    @override
    def find_binaries(self) -> processes.Binaries:
        binaries = processes.find_binaries(("pgbouncer",), DIRECTORIES, ())
        if binaries is None:
            raise MissingServiceError("No pgbouncer found. Install it (apt-get install pgbouncer)")
        return binaries

    @override
    def _prepare(self, home: processes.Home, programs: Path) -> None:
        self._program = str(programs / "pgbouncer")
        server = urlsplit(self._postgres.url())
        users = home.write("users.txt", f'"{server.username}" "{server.password}"\n')
        self._databases = f"* = host={server.hostname} port={server.port}"
        self._options = (
            f"auth_type = plain\nauth_file = {users}\nlisten_addr = 127.0.0.1\nunix_socket_dir =\n"
            f"pool_mode = transaction\ndefault_pool_size = {self._pool_size}\nmax_client_conn = 200\n"
        )

    @override
    def _command(self, home: processes.Home, port: int) -> list[str]:
        text = f"[databases]\n{self._databases}\n[pgbouncer]\nlisten_port = {port}\n{self._options}"
        return [self._program, str(home.write("pgbouncer.ini", text))]

    @override
    def _answers(self) -> bool:
        try:
            with closing(psycopg2.connect(self.url().replace("+psycopg2", "", 1), connect_timeout=5)):
                return True
        except psycopg2.OperationalError:
            return False
