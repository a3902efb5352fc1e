from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
import pytest

from workflow_engine.testing import services

if TYPE_CHECKING:
    from workflow_engine.testing.services import PostgresServer, RedisServer


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with (
        closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


SUITE = """
    def test_needs_redis(redis_url):
        pass

    def test_needs_postgres(private_postgres_server):
        pass

    def test_needs_nothing():
        pass
"""
WITHOUT_SERVERS = """
    from workflow_engine.testing import services

    services.POSTGRES_DIRECTORIES = services.POSTGRES_WHEELS = services.REDIS_WHEELS = ()
"""


@pytest.fixture
def suite_without_servers(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in ("CI", "WORKFLOW_ENGINE_REQUIRE_SERVICES", services.REDIS_URL_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    pytester.makeconftest(WITHOUT_SERVERS)
    pytester.makepyfile(SUITE)
    return pytester


def test_missing_servers_skip_loudly(suite_without_servers: pytest.Pytester) -> None:
    result = suite_without_servers.runpytest_subprocess()

    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        ["*NOT TESTED: servers are missing*", "No PostgreSQL server found*", "No redis-server found*"]
    )


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("WORKFLOW_ENGINE_REQUIRE_SERVICES", "1")])
def test_missing_servers_fail_the_gate(
    suite_without_servers: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    result = suite_without_servers.runpytest_subprocess()

    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*No redis-server found. Install one*"])


def test_a_running_server_is_taken_from_the_environment(
    suite_without_servers: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    monkeypatch.setenv(services.REDIS_URL_VARIABLE, redis_server.url())

    result = suite_without_servers.runpytest_subprocess("-k", "redis")

    result.assert_outcomes(passed=1)


def test_postgres_url_copies_the_template_that_a_suite_names(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer
) -> None:
    monkeypatch.setenv(services.POSTGRES_URL_VARIABLE, postgres_server.url())
    name = postgres_server.create_database().rpartition("/")[2]
    query(postgres_server.url(name), "CREATE TABLE templated (id int)")
    before = query(postgres_server.url(), "SELECT datname FROM pg_database ORDER BY 1")
    pytester.makepyfile(
        f"""
        import psycopg2, pytest
        from contextlib import closing

        @pytest.fixture(scope="session")
        def postgres_template():
            return {name!r}

        def test_has_the_table(postgres_url):
            assert {name!r} not in postgres_url
            with closing(psycopg2.connect(postgres_url.replace("+psycopg2", ""))) as c, c.cursor() as cursor:
                cursor.execute("SELECT * FROM templated")
        """
    )

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(passed=1)
    assert query(postgres_server.url(), "SELECT datname FROM pg_database ORDER BY 1") == before
    postgres_server.drop_database(name)
