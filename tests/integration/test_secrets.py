"""A secret is planted wherever the engine promises to keep it out of, then everything that was recorded is searched."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from workflow_engine.definition import Pending, PollContext, Retry, StageContext, Suspend, WorkflowBuilder, stage
from workflow_engine.errors import ConfigurationError, DatabaseUnavailableError, InvalidRequestError
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.schema.tables import metadata
from workflow_engine.testing.kit import WorkflowTester
from workflow_engine.worker.wire import messages
from workflow_engine.worker.wire.supported_brokers import Broker

SECRET = f"hunter-{secrets.token_hex(8)}"


class Number(BaseModel):
    n: int = 1


class Reference(BaseModel):
    #: Which account to ask, never its key.
    account: str


class Credentials(BaseModel):
    key: SecretStr


def leak(ctx: StageContext[Number]) -> Suspend[Reference]:
    line = f"calling with api_key={SECRET}"
    ctx.log.info(line, password=SECRET, headers={"Authorization": f"Bearer {SECRET}"})
    ctx.progress(0.5, "half", token=SECRET, nested={"client_secret": SECRET})
    if ctx.attempt == 1:
        raise ConnectionError(f"401 for https://api.example/?api_key={SECRET}&x=1, Authorization: Bearer {SECRET}")
    return Suspend(Reference(account="a"), poll_interval=timedelta(seconds=1), metadata={"apiKey": SECRET})


def is_done(ctx: PollContext[Reference]) -> Number | Pending:
    ctx.log.warning("asking", secret=SECRET)
    if ctx.polls == 0:
        return Pending(progress=0.7, message=f"token: {SECRET}")
    raise ValueError(f'the answer was {{"password": "{SECRET}"}}')


polled = stage(id="polled", poll=is_done, retry=Retry(max_attempts=2, jitter=False))(leak)
leaking = WorkflowBuilder("leaking", input=Number).pipe(polled).build()


@pytest.fixture
def tester(database_url: str) -> Iterator[WorkflowTester]:
    with WorkflowTester(leaking, database_url=database_url, signing_key=f"{SECRET}{'k' * 32}") as started:
        yield started


def dump(tester: WorkflowTester) -> str:
    """Return every row of every table."""

    def read(tx: Any) -> list[str]:
        return [repr(row) for table in metadata.sorted_tables for row in tx.execute(table.select())]

    return "\n".join(tester.database.read(read))


def test_a_secret_is_in_no_row_no_log_line_no_event_and_no_message(
    tester: WorkflowTester, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    run = tester.create_run(leaking, Number())
    sent = list(tester.messages.waiting)

    tester.run_to_end(run)

    rows = dump(tester)
    assert "[redacted]" in rows
    assert "calling with api_key=" in rows
    assert SECRET not in rows
    assert SECRET not in caplog.text
    assert SECRET not in repr(
        [run.snapshot(), run.list_stages(), run.list_events(), run.list_logs(), repr(tester.settings)]
    )
    assert all(SECRET not in messages.body(hint) + repr(messages.headers(hint)) for hint in sent)


def test_messages_carry_ids_and_nothing_of_the_run(tester: WorkflowTester) -> None:
    planted = f"input-{SECRET}"
    tester.create_run(leaking, Number(), metadata={"who": planted}, idempotency_key=planted)

    wire = [
        messages.body(hint) + repr(messages.publish_options(hint, Broker.REDIS)) for hint in tester.messages.waiting
    ]

    assert len(wire) == 1
    assert planted not in wire[0]


def test_a_secret_field_is_refused_without_being_shown() -> None:
    @stage
    def connect(ctx: StageContext[Credentials]) -> Number:
        return Number()

    connecting = WorkflowBuilder("connecting", input=Credentials).pipe(connect).build()
    with WorkflowTester(connecting) as tester, pytest.raises(InvalidRequestError, match="reference") as caught:
        tester.create_run(connecting, {"key": SECRET})

    assert SECRET not in str(caught.value)


def test_what_a_schema_refuses_is_named_and_not_shown(tester: WorkflowTester) -> None:
    with pytest.raises(InvalidRequestError, match="n: ") as caught:
        tester.create_run(leaking, {"n": SECRET})

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [f"postgresql://me:{SECRET}@127.0.0.1:1/x", f"mysql://me:{SECRET}@db/x", f"postgres//me:{SECRET}@db"],
    ids=["unreachable", "another kind", "malformed"],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises((ConfigurationError, DatabaseUnavailableError)) as caught:
        Database(url, clock=WorkflowTester().clock).read(lambda tx: tx.exec_driver_sql("SELECT 1"))

    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.__cause__ or "")


def test_settings_that_do_not_fit_are_named_without_their_values() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(signing_key=[SECRET], lease=SECRET)

    assert SECRET not in str(caught.value)
