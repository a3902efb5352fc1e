from __future__ import annotations

import logging
import signal
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from kombu import Connection, Consumer
from kombu.exceptions import OperationalError

from workflow_engine.errors import ConfigurationError
from workflow_engine.lifecycle import RunStatus
from workflow_engine.testing.processes import free_port
from workflow_engine.worker.embedded import worker as embedded
from workflow_engine.worker.embedded.beat import EmbeddedBeat


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.fixture(params=["memory", "redis", "rabbit"])
def broker_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def test_an_embedded_worker_runs_what_is_dispatched(embed: Any, broker_url: str) -> None:
    embedding = embed(broker_url, concurrency=4)
    embedding.worker.start()

    run_ids = [embedding.create_run(number) for number in range(20)]

    embedding.wait_for(*run_ids)


def test_runs_that_were_created_before_it_started_are_run_too(embed: Any, broker_url: str) -> None:
    embedding = embed(broker_url)
    run_id = embedding.create_run(1)

    embedding.worker.start()

    embedding.wait_for(run_id)


def test_more_important_runs_overtake_and_equals_keep_their_order(embed: Any, broker_url: str, script: Any) -> None:
    embedding = embed(broker_url, concurrency=1)
    run_ids = [embedding.create_run(number, priority=number // 10) for number in (12, 11, 52, 51, 102, 101, 1)]

    embedding.worker.start()

    embedding.wait_for(*run_ids)
    assert script.executed == [102, 101, 52, 51, 12, 11, 1]


def test_a_slot_that_becomes_free_takes_the_next_message_at_once(
    embed: Any, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOOK_SECONDS", 4.0)
    embedding = embed(broker_url, concurrency=1)
    embedding.worker.start()
    started = time.monotonic()

    run_ids = [embedding.create_run(number) for number in range(6)]

    embedding.wait_for(*run_ids)
    assert time.monotonic() - started < 12  # five looks in vain would take twenty


def test_a_broker_that_cannot_be_reached_is_an_error_and_holds_nobody_up(
    embed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", 0.5)
    embedding = embed(f"redis://127.0.0.1:{free_port()}/0")
    beat = EmbeddedBeat(embedding.app)
    beat.start()

    with pytest.raises(ConfigurationError, match="does not start"):
        embedding.worker.start()

    beat.stop()
    assert "workflow-worker" not in names_of_threads()


def test_an_app_that_refuses_queues_that_it_does_not_know_is_told_of_ours(embed: Any) -> None:
    embedding = embed("memory://")
    embedding.app.conf.task_create_missing_queues = False
    embedding.worker.start()

    embedding.wait_for(embedding.create_run(1))


def test_it_starts_within_a_second_and_stops_without_leaving_a_thread(embed: Any) -> None:
    before = names_of_threads()
    embedding = embed()
    started = time.monotonic()

    embedding.worker.start()

    assert time.monotonic() - started < 1
    run_id = embedding.create_run(1)
    embedding.wait_for(run_id)
    embedding.close()
    assert names_of_threads() <= before


def test_stopping_waits_for_running_stages(embed: Any, script: Any) -> None:
    script.gate.clear()
    embedding = embed()
    embedding.worker.start()
    run_id = embedding.create_run(1)
    assert script.entered.wait(10)
    threading.Timer(0.2, script.gate.set).start()

    all_ended = embedding.worker.stop()

    assert all_ended
    assert embedding.status(run_id) is RunStatus.COMPLETED


def test_stopping_waits_no_longer_than_its_grace(embed: Any, script: Any) -> None:
    script.gate.clear()
    embedding = embed()
    embedding.worker.start()
    embedding.create_run(1)
    assert script.entered.wait(10)

    all_ended = embedding.worker.stop(timedelta(milliseconds=50))

    assert not all_ended
    script.gate.set()
    assert embedding.worker.stop()


def test_it_can_be_started_again(embed: Any) -> None:
    embedding = embed()
    embedding.worker.start()
    embedding.worker.stop()

    embedding.worker.start()

    embedding.wait_for(embedding.create_run(1))


def test_it_cannot_be_started_twice(embed: Any) -> None:
    embedding = embed()
    embedding.worker.start()

    with pytest.raises(ConfigurationError, match="runs already"):
        embedding.worker.start()


def test_two_apps_in_one_process_keep_out_of_each_others_way(embed: Any) -> None:
    one, other = embed(queue="one"), embed(queue="other")
    one.worker.start()
    other.worker.start()
    first, second = one.create_run(1), other.create_run(2)
    one.wait_for(first)
    other.wait_for(second)

    one.worker.stop()

    other.wait_for(other.create_run(3))


def test_logging_and_signals_of_the_process_are_left_alone(embed: Any) -> None:
    def look() -> Any:
        root = logging.getLogger()
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
        return list(root.handlers), root.level, [signal.getsignal(number) for number in numbers]

    before = look()
    embedding = embed()

    embedding.worker.start()

    assert look() == before
    embedding.worker.stop()
    assert look() == before


def test_it_sweeps_by_itself_when_told_so(embed: Any) -> None:
    embedding = embed(sweep_in_workers="always")
    run_id = embedding.create_run(1)
    # The message is lost: only a sweep finds the run again.
    embedding.dispatcher._link.use(lambda channel: channel.queue_purge(embedding.settings.queue))
    embedding.engine.database.transact(lambda tx: tx.exec_driver_sql("UPDATE workflow_stages SET dispatched_at = 0"))

    embedding.worker.start()

    embedding.wait_for(run_id)


def test_it_sweeps_no_more_while_running_stages_outlast_its_stop(embed: Any, script: Any) -> None:
    script.gate.clear()
    embedding = embed(sweep_in_workers="always")
    embedding.worker.start()
    embedding.create_run(1)
    assert script.entered.wait(10)

    all_ended = embedding.worker.stop(timedelta(milliseconds=50))

    assert not all_ended
    assert "workflow-sweeper" not in {thread.name for thread in threading.enumerate()}
    script.gate.set()
    assert embedding.worker.stop()


def test_what_keeps_a_worker_from_starting_is_told_by_start(embed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no thread can be started")

    monkeypatch.setattr(embedded.Consumption, "run", fail)
    embedding = embed()

    with pytest.raises(ConfigurationError, match="does not start") as caught:
        embedding.worker.start()

    assert "no thread can be started" in str(caught.value.__cause__)


def test_a_connection_that_kombu_reports_lost_by_another_name_is_made_anew(
    embed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [OperationalError("lost while queues were declared")]
    consume = Consumer.consume

    def lose_once(self: Any, *arguments: Any) -> None:
        if losses:
            raise losses.pop()
        consume(self, *arguments)

    monkeypatch.setattr(Consumer, "consume", lose_once)
    embedding = embed()

    embedding.worker.start()

    embedding.wait_for(embedding.create_run(1))


def test_a_worker_that_gave_up_connecting_ends(embed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: Any, **__: Any) -> None:
        raise OperationalError("refused a hundred times")

    monkeypatch.setattr(Connection, "ensure_connection", give_up)
    embedding = embed()

    with pytest.raises(ConfigurationError) as caught:
        embedding.worker.start()

    assert "gave up connecting to the broker: refused a hundred times" in str(caught.value.__cause__)


def test_which_queues_it_consumes_is_not_left_in_the_app(embed: Any) -> None:
    embedding = embed()
    queues: Any = embedding.app.amqp.queues
    before = dict(queues.consume_from)
    embedding.worker.start()
    embedding.wait_for(embedding.create_run(1))

    embedding.worker.stop()

    assert dict(queues.consume_from) == before


def test_tasks_of_the_app_s_own_in_the_engine_s_queue_are_executed(embed: Any, redis_url: str) -> None:
    embedding = embed(redis_url)
    seen: list[tuple[Any, ...]] = []
    arrived = threading.Event()

    @embedding.app.task
    def greet(*names: str) -> None:
        seen.append((*names, current_app.main))
        arrived.set()

    greet.apply_async(("Ada", "Alan"), queue=embedding.settings.queue)
    embedding.worker.start()

    assert arrived.wait(30)
    assert seen == [("Ada", "Alan", embedding.app.main)]


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("workflow_engine.execute_stage", "the first argument is no stage run id"),
        ("nobody.knows", "there is no such task"),
    ],
)
def test_a_message_that_it_refuses_occupies_no_slot(
    embed: Any, caplog: pytest.LogCaptureFixture, broker_url: str, task: str, problem: str
) -> None:
    embedding = embed(broker_url, concurrency=1)
    queue = embedding.settings.queue
    forged = {
        "headers": {"task": task, "id": "forged"},
        "content_type": "application/json",
        "content_encoding": "utf-8",
    }
    embedding.create_run(1)
    with embedding.app.connection_for_write() as connection:
        for _ in range(3):
            connection.Producer(auto_declare=False).publish(
                "[[1, 2], {}, {}]", exchange="", routing_key=queue, **forged
            )

    embedding.worker.start()

    embedding.wait_for(embedding.create_run(2))
    embedding.wait_until(lambda: caplog.text.count(problem) == 3)


def test_stages_that_run_while_the_connection_is_lost_end_and_others_follow(
    embed: Any, script: Any, broker_url: str, caplog: pytest.LogCaptureFixture, lose_connection: Any
) -> None:
    script.gate.clear()
    embedding = embed(broker_url, concurrency=2)
    embedding.worker.start()
    first = embedding.create_run(1)
    assert script.entered.wait(30)

    lose_connection("the broker is gone")
    embedding.wait_until(lambda: "the broker is gone" in caplog.text)
    script.gate.set()

    embedding.wait_for(first, embedding.create_run(2))
    assert embedding.worker.stop()
