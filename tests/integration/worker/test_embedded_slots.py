"""What an embedded worker takes off the broker, and when it takes nothing."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from workflow_engine.worker.wire.queues import find_queue


@pytest.fixture(params=["redis", "rabbit"])
def broker_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def test_slots_are_occupied_by_what_came_over_a_lost_connection_too(
    embed: Any, script: Any, broker_url: str, caplog: pytest.LogCaptureFixture, lose_connection: Any
) -> None:
    script.gate.clear()
    embedding = embed(broker_url, concurrency=2)
    embedding.worker.start()
    embedding.create_run(1, priority=1)
    assert script.entered.wait(30)
    lose_connection("the broker is gone")
    embedding.wait_until(lambda: "the broker is gone" in caplog.text)

    threading.Event().wait(1.5)  # the message of the first run comes again, and is done with at once

    embedding.create_run(2, priority=9)
    embedding.wait_until(lambda: script.executed == [1, 2])
    waiting = embedding.create_run(3)
    threading.Event().wait(1)  # nothing tells of a message that is not taken

    assert embedding.dispatcher.depths([embedding.settings.queue]) == {embedding.settings.queue: 1}
    script.gate.set()
    embedding.wait_for(waiting)


def test_no_more_messages_are_held_than_there_are_slots_whatever_number_of_queues(embed: Any, broker_url: str) -> None:
    embedding = embed(broker_url, concurrency=2, stage_queues=("slots-a", "slots-b"))
    queues = [embedding.settings.queue, "slots-a", "slots-b"]
    gate, entered = threading.Event(), threading.Semaphore(0)

    @embedding.app.task(shared=False)
    def occupy() -> None:
        entered.release()
        gate.wait(30)

    for queue in queues * 4:
        occupy.apply_async(queue=find_queue(embedding.app, queue))
    embedding.worker.start()
    assert entered.acquire(timeout=30)
    assert entered.acquire(timeout=30)
    threading.Event().wait(0.5)  # nothing tells of a message that is not taken

    held = len(queues) * 4 - sum(embedding.dispatcher.depths(queues).values())

    gate.set()
    assert held == 2


def test_a_task_of_the_app_s_own_that_nothing_has_imported_yet_is_found(
    embed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from celery import current_app\n\n@current_app.task(name='late.greet', shared=False)\ndef greet():\n    pass\n"
    )
    (tmp_path / "late_tasks.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    embedding = embed()
    embedding.app.conf.imports = ["late_tasks"]

    embedding.worker.start()

    assert "late.greet" in embedding.app.tasks


def test_it_warns_about_no_option_that_it_does_not_have(embed: Any, caplog: pytest.LogCaptureFixture) -> None:
    embedding = embed()
    embedding.app.conf.worker_prefetch_multiplier = 4
    embedding.app.conf.accept_content = ["json", "pickle"]

    embedding.worker.start()

    assert "pickle" in caplog.text
    assert "worker_prefetch_multiplier" not in caplog.text


def test_a_broker_that_breaks_each_connection_is_not_asked_without_a_pause(
    embed: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(self: Connection, **_: Any) -> None:
        raise self.connection_errors[0]("broken again")

    embedding = embed()
    embedding.worker.start()
    monkeypatch.setattr(Connection, "drain_events", lose)
    embedding.wait_until(lambda: "broken again" in caplog.text)
    threading.Event().wait(1)

    assert caplog.text.count("broken again") < 5
    assert embedding.worker.stop()


def test_what_arrives_at_a_worker_that_stops_is_left_to_others(embed: Any, script: Any, broker_url: str) -> None:
    script.gate.clear()
    embedding = embed(broker_url, concurrency=2)
    embedding.worker.start()
    embedding.create_run(1)
    assert script.entered.wait(30)

    assert not embedding.worker.stop(timedelta(seconds=0.7))
    embedding.create_run(2)

    embedding.wait_until(lambda: embedding.dispatcher.depths([embedding.settings.queue])[embedding.settings.queue] == 1)
    script.gate.set()
    assert embedding.worker.stop()
    assert script.executed == [1]
