from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from celery import Celery
from kombu.message import Message

from workflow_engine.store.records import Hint
from workflow_engine.worker.names import EXECUTE_STAGE
from workflow_engine.worker.wire import messages
from workflow_engine.worker.wire.message_guards import find_problem
from workflow_engine.worker.wire.supported_brokers import Broker

HINT = Hint(
    stage_run_id="01890000-0000-7000-8000-00000000abcd",
    dispatch_number=3,
    run_id="01890000-0000-7000-8000-00000000ef01",
    stage_id="extract",
    queue="workflow",
    priority=5,
)


def test_the_task_id_tells_run_stage_and_dispatch() -> None:
    assert messages.task_id(HINT) == "01890000-0000-7000-8000-00000000ef01/extract/3-00abcd"


def test_task_ids_of_two_stage_runs_of_one_stage_differ() -> None:
    rerun = replace(HINT, stage_run_id="01890000-0000-7000-8000-000000001234")

    assert messages.task_id(rerun) != messages.task_id(HINT)


def test_monitors_are_shown_the_stage_and_the_run() -> None:
    headers = messages.headers(HINT)

    assert headers["argsrepr"] == "stage extract of run 01890000-0000-7000-8000-00000000ef01"


def test_nothing_expires_or_waits_at_the_broker() -> None:
    assert not {"eta", "expires"} & set(messages.headers(HINT))
    assert "expiration" not in messages.publish_options(HINT, Broker.REDIS)


@pytest.mark.parametrize("broker", Broker)
@pytest.mark.parametrize("deliver", [str, str.encode, lambda body: memoryview(body.encode())])
def test_our_own_messages_pass_our_own_guard_in_whatever_form_a_broker_delivers_them(
    broker: Broker, deliver: Callable[[str], object]
) -> None:
    options = messages.publish_options(HINT, broker)
    message = Message(
        body=deliver(messages.body(HINT)),
        content_type=options["content_type"],
        content_encoding=options["content_encoding"],
        headers=options["headers"],
    )

    assert find_problem(message, EXECUTE_STAGE) is None


def test_the_headers_are_among_those_that_celery_itself_sends() -> None:
    theirs = Celery(set_as_current=False).amqp.as_task_v2("id", "task").headers

    assert set(messages.headers(HINT)) <= set(theirs)
