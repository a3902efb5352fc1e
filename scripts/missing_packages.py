"""Print the Debian packages of programs that the tests need and neither this machine nor the environment's wheels have."""

from __future__ import annotations

import shutil
import sys

from workflow_engine.testing.pgbouncer import PgBouncerServer
from workflow_engine.testing.servers import MissingServiceError
from workflow_engine.testing.services import PostgresServer, RabbitServer, RedisServer

postgres = PostgresServer()
SERVERS = {
    "postgresql": postgres,
    "redis-server": RedisServer(),
    "pgbouncer": PgBouncerServer(postgres),
    "rabbitmq-server": RabbitServer(),
}
#: Shells whose completion is documented.
SHELLS = ("bash", "fish", "zsh")

missing = [shell for shell in SHELLS if shutil.which(shell) is None]
for package, server in SERVERS.items():
    try:
        server.find_binaries()
    except MissingServiceError:
        missing.append(package)
sys.stdout.write("\n".join(missing))
