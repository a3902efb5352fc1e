from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

import psycopg2
import pytest

from workflow_engine.testing.pgbouncer import PgBouncerServer

#: Of these PgBouncer itself keeps each client's own value.
TRACKED = {"application_name", "client_encoding", "DateStyle", "standard_conforming_strings", "TimeZone"}


@pytest.fixture
def database_url(pgbouncer_server: PgBouncerServer, postgres_url: str) -> str:
    return pgbouncer_server.url(postgres_url)


def test_chains_groups_and_polls_complete_and_other_programs_keep_their_settings(world: Any) -> None:
    with ExitStack() as stack:  # programs that share the sessions, and leave their own settings there
        for _ in range(4):
            url = world.settings.database_url.replace("+psycopg2", "")
            neighbour = stack.enter_context(closing(psycopg2.connect(url)))
            neighbour.cursor().execute("SET default_transaction_isolation = 'repeatable read'")
            neighbour.commit()
        world.start_worker("--pool=prefork", sweep_in_workers="always")
        chains = [world.create_run("arithmetic", number=number) for number in range(10)]
        groups = [world.create_run("spreading", number=number) for number in range(20)]

        for run_id in chains + groups:
            world.wait_for(run_id)

        neighbours = [stack.enter_context(closing(psycopg2.connect(url))) for _ in range(4)]
        left = set[str]()
        for cursor in [neighbour.cursor() for neighbour in neighbours]:  # each keeps the session that it gets
            cursor.execute("SELECT name FROM pg_settings WHERE source = 'session' AND name <> 'transaction_isolation'")
            left |= {row[0] for row in cursor.fetchall()}
    last = world.read("SELECT payload FROM workflow_outputs WHERE stage_id = 'add' ORDER BY payload::int")
    assert [int(payload) for (payload,) in last] == [4 * number + 3 for number in range(20)]
    assert left - TRACKED <= {"default_transaction_isolation"}
