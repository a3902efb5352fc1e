"""A deep backlog: ten thousand stages wait (at night fifty thousand), one slow worker takes them, and no message is sent twice without need."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from pydantic import BaseModel

from tests.effort import IS_NIGHTLY
from tests.faults.chaos import SEPARATOR, forge
from workflow_engine.definition import StageContext, WorkflowBuilder, stage
from workflow_engine.definition.workflows.registry import as_registry
from workflow_engine.engine import CreateRun, Engine, create_run, execute_stage, sweep
from workflow_engine.settings import Settings
from workflow_engine.store.schema.tables import metadata
from workflow_engine.testing.services import PostgresServer
from workflow_engine.worker.app import create_app
from workflow_engine.worker.wire.broker_priorities import STEPS, list_name
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher

DEPTH = 50_000 if IS_NIGHTLY else 10_000
TAKEN_PER_SWEEP = 10
SWEEPS = 20
#: How far apart the stage runs were dispatched: within the test the worker gets beyond the slack.
APART = timedelta(milliseconds=100)
AGED = {"created_at", "available_at", "dispatched_at"}

TURN = """
CREATE OR REPLACE FUNCTION workflow_now() RETURNS bigint LANGUAGE sql VOLATILE
AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint + {skew}'
"""


class Number(BaseModel):
    n: int


@stage
def double(ctx: StageContext[Number]) -> Number:
    return Number(n=2 * ctx.input.n)


doubling = WorkflowBuilder("doubling", input=Number).pipe(double).build()


def multiply(table: str, reference: str) -> str:
    """Return the statement that copies the one row of a table, each copy a moment older than the one before."""
    run_id = "'run-' || n"
    values = {"id": run_id} if reference == "id" else {"id": "gen_random_uuid()", reference: run_id}
    for column in metadata.tables[table].columns:
        age = f" - n * {APART // timedelta(milliseconds=1)}" if column.name in AGED else ""
        values.setdefault(column.name, f"{column.name}{age}")
    return (
        f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} "
        f"FROM {table}, generate_series(1, {DEPTH - 1}) AS n"
    )


class Backlog:
    """The records, a real Redis, and a worker that pops messages as kombu does."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self.engine = engine
        self._client = client
        self._skew = timedelta(0)
        self._keys = [list_name(engine.settings.queue, step, SEPARATOR) for step in range(STEPS)]

    def fill(self) -> None:
        create_run(self.engine, CreateRun(doubling, Number(n=1)))
        for table, reference in (("workflow_runs", "id"), ("workflow_stages", "run_id")):
            self._execute(multiply(table, reference))
            self._execute(f"ANALYZE {table}")
        oldest_first = "SELECT id FROM workflow_stages ORDER BY dispatched_at"
        ids = self.engine.database.read(lambda tx: list(tx.exec_driver_sql(oldest_first)))
        self.flush()
        key = list_name(self.engine.settings.queue, 5, SEPARATOR)
        with self._client.pipeline(transaction=False) as pipeline:
            for row in ids:
                pipeline.lpush(key, forge(row.id, 1, self.engine.settings.queue))
            pipeline.execute()

    def take(self, count: int) -> list[str]:
        """Pop and execute, the most important list first; return what became of each."""
        return [self._take() for _ in range(count)]

    def count(self) -> int:
        """Return how many messages wait."""
        return sum(int(self._client.llen(key)) for key in self._keys)

    def flush(self) -> None:
        self._client.flushdb()

    def sweep(self) -> int:
        """Let a sweep interval pass, sweep, and return how many messages that sent."""
        self._skew += self.engine.settings.sweep_interval
        self._execute(TURN.format(skew=self._skew // timedelta(milliseconds=1)))
        report = sweep(self.engine, force=True)
        assert report.errors == {}
        return report.repaired.get("dispatched", 0)

    def _take(self) -> str:
        entry: Any = next(entry for key in self._keys if (entry := self._client.rpop(key)) is not None)
        message = json.loads(entry)
        body = message["body"]
        if message["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        stage_run_id, number = json.loads(body)[0]
        return execute_stage(self.engine, stage_run_id, number).result

    def _execute(self, statement: str) -> None:
        self.engine.database.transact(lambda tx: tx.exec_driver_sql(statement))


@pytest.fixture
def backlog(postgres_server: PostgresServer, migrated_postgres: str, redis_url: str) -> Iterator[Backlog]:
    url = postgres_server.create_database(template=migrated_postgres)
    settings = Settings.load(database_url=url, broker_url=redis_url)
    app = create_app(settings)
    dispatcher = CeleryDispatcher(app, settings)
    engine = Engine.build(settings=settings, registry=as_registry(doubling), dispatcher=dispatcher)
    with redis.Redis.from_url(redis_url) as client:
        deep = Backlog(engine, client)
        deep.fill()
        yield deep
    engine.close()
    dispatcher.close()
    postgres_server.drop_database(url.rpartition("/")[2])


@pytest.mark.long(40)
@pytest.mark.timeout(900)
def test_a_deep_backlog_is_not_sent_again_and_a_flushed_one_at_once(backlog: Backlog) -> None:
    sent = 0
    for _ in range(SWEEPS):
        assert set(backlog.take(TAKEN_PER_SWEEP)) == {"completed"}
        sent += backlog.sweep()

    assert sent < DEPTH / 100
    assert backlog.count() == DEPTH - SWEEPS * TAKEN_PER_SWEEP + sent

    # Everything is lost; the slack, and two sweep intervals later all of it is sent again, once.
    waiting = DEPTH - SWEEPS * TAKEN_PER_SWEEP
    backlog.flush()
    slack = backlog.engine.settings.dispatch_slack
    sent_again = [backlog.sweep() for _ in range(2 + slack // backlog.engine.settings.sweep_interval)]

    assert sum(sent_again) == waiting
    assert backlog.count() == waiting

    # What was sent again is a deep backlog like any other.
    sent = 0
    for _ in range(SWEEPS):
        assert set(backlog.take(TAKEN_PER_SWEEP)) == {"completed"}
        sent += backlog.sweep()
    assert sent < DEPTH / 100
