"""The pytest plugin: real servers as fixtures, for this package's own tests and for those of its users.

A server that this machine does not have fails the tests that ask for it when ``CI=true`` or
``WORKFLOW_ENGINE_REQUIRE_SERVICES=1``; elsewhere they are skipped and the summary says so in a section of its own.
Imports are kept inside the fixtures: the plugin is loaded by every pytest run of an environment that has the package.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow_engine.testing.pgbouncer import PgBouncerServer
    from workflow_engine.testing.servers import Server
    from workflow_engine.testing.services import PostgresServer, RabbitServer, RedisServer

    ServerT = TypeVar("ServerT", bound=Server)

#: The reasons for which tests were skipped for want of a server.
MISSING_SERVICES = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """The PostgreSQL server of the session (``WORKFLOW_ENGINE_TEST_POSTGRES_URL``, else started here)."""
    from workflow_engine.testing.services import POSTGRES_URL_VARIABLE, PostgresServer

    yield from _serve(pytestconfig, PostgresServer(os.environ.get(POSTGRES_URL_VARIABLE)))


@pytest.fixture(scope="session")
def pgbouncer_server(pytestconfig: pytest.Config, postgres_server: PostgresServer) -> Iterator[PgBouncerServer]:
    """A PgBouncer of the session in front of ``postgres_server``, in transaction mode, always started here."""
    from workflow_engine.testing.pgbouncer import PgBouncerServer

    yield from _serve(pytestconfig, PgBouncerServer(postgres_server))


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """The Redis server of the session (``WORKFLOW_ENGINE_TEST_REDIS_URL``, else started here)."""
    from workflow_engine.testing.services import REDIS_URL_VARIABLE, RedisServer

    yield from _serve(pytestconfig, RedisServer(os.environ.get(REDIS_URL_VARIABLE)))


@pytest.fixture(scope="session")
def rabbit_server(pytestconfig: pytest.Config) -> Iterator[RabbitServer]:
    """The RabbitMQ server of the session, started here."""
    from workflow_engine.testing.services import RabbitServer

    yield from _serve(pytestconfig, RabbitServer())


@pytest.fixture
def private_postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test alone, always started here: stop it, crash it, restart it."""
    from workflow_engine.testing.services import PostgresServer

    yield from _serve(pytestconfig, PostgresServer())


@pytest.fixture
def private_redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """A Redis server of this test alone, always started here, which forgets everything when it ends."""
    from workflow_engine.testing.services import RedisServer

    yield from _serve(pytestconfig, RedisServer())


@pytest.fixture(scope="session")
def postgres_template() -> str | None:
    """Name of the database that ``postgres_url`` copies; override it to hand out databases with a schema."""
    return None


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str | None) -> Iterator[str]:
    """SQLAlchemy URL of a database of this test alone, a copy of ``postgres_template`` if that is given."""
    url = postgres_server.create_database(template=postgres_template)
    yield url
    postgres_server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty Redis database of this test alone (one of 15, in turn)."""
    return redis_server.claim_database()


@pytest.fixture
def rabbit_url(rabbit_server: RabbitServer) -> str:
    """URL of a virtual host of RabbitMQ that no other test uses."""
    return rabbit_server.claim_virtual_host()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which servers were missing, so that a green run without them is not mistaken for a full one."""
    reasons = config.stash.get(MISSING_SERVICES, set())
    if reasons:
        terminalreporter.section("NOT TESTED: servers are missing", yellow=True, bold=True)
        for reason in sorted(reasons):
            terminalreporter.line(reason, yellow=True)


def _serve(config: pytest.Config, server: ServerT) -> Iterator[ServerT]:
    from workflow_engine.testing.servers import MissingServiceError

    try:
        server.start()
    except MissingServiceError as error:
        if os.environ.get("CI") == "true" or os.environ.get("WORKFLOW_ENGINE_REQUIRE_SERVICES") == "1":
            pytest.fail(str(error), pytrace=False)
        config.stash.setdefault(MISSING_SERVICES, set()).add(str(error))
        pytest.skip(str(error))
    except BaseException:
        server.close()
        raise
    try:
        yield server
    finally:
        server.close()
