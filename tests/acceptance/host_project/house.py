"""A Celery project as teams have them, which makes use of what Celery offers; with ``HOUSE_HAS_GUEST=1`` the engine is in.

Its own checks (``house_checks.py``) know nothing of the engine.
"""

from __future__ import annotations

import os
import threading
from decimal import Decimal
from typing import Any

import redis
from celery import Celery, Task, signals
from kombu import Queue, serialization
from kombu.utils import json

from workflow_engine import StageContext, WorkflowBuilder, WorkflowRuntime, stage

notes = redis.Redis.from_url(os.environ["HOUSE_REDIS_URL"], decode_responses=True)


def encode(content: Any) -> str:
    return "house:" + json.dumps(content)


def decode(text: str | bytes) -> Any:
    content = text.decode() if isinstance(text, bytes) else text
    return json.loads(content.removeprefix("house:"))


serialization.register("house", encode, decode, "application/x-house", "utf-8")


class HouseTask(Task):
    """The base class of the team's tasks: it notes what Celery calls on it, and takes part in each call."""

    abstract = True
    mark = "none"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        notes.rpush("hooks", f"call {self.name}")
        return super().__call__(*args, **kwargs)

    def apply_async(self, *args: Any, **options: Any) -> Any:
        notes.rpush("hooks", f"apply_async {self.name}")
        return super().apply_async(*args, **options)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        notes.rpush("hooks", f"before_start {self.name}")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        notes.rpush("hooks", f"on_success {self.name}")

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        notes.rpush("hooks", f"on_failure {self.name}")


class Configuration:
    broker_url = os.environ["HOUSE_BROKER_URL"]
    broker_transport_options = {"visibility_timeout": 600}  # noqa: RUF012
    result_backend = os.environ["HOUSE_REDIS_URL"]
    task_serializer = "house"
    accept_content = ["house"]  # noqa: RUF012 - JSON is not among it
    result_accept_content = ["json"]  # noqa: RUF012
    task_default_queue = "house"
    task_queues = [Queue("house"), Queue("reports")]  # noqa: RUF012
    task_create_missing_queues = False
    task_routes = {"house.build_report": {"queue": "reports"}, "*": {"queue": "house"}}  # noqa: RUF012
    task_annotations = {"*": {"mark": "annotated", "time_limit": 3, "soft_time_limit": 2}}  # noqa: RUF012
    task_time_limit = 2
    task_soft_time_limit = 1
    task_default_rate_limit = "500/s"
    task_default_priority = 3
    task_inherit_parent_priority = True
    task_track_started = True
    task_acks_late = False
    task_store_errors_even_if_ignored = True
    task_compression = "gzip"
    task_remote_tracebacks = False
    worker_prefetch_multiplier = 2
    worker_max_tasks_per_child = 50


app = Celery("house", task_cls=HouseTask)
if os.environ.get("HOUSE_EAGER"):
    Configuration.task_always_eager = True  # type: ignore[attr-defined]


@stage
def outlast(ctx: StageContext[float]) -> float:
    """Take longer than the team lets its own tasks take."""
    threading.Event().wait(ctx.input)
    return ctx.input


outlasting = WorkflowBuilder("outlasting", input=float).pipe(outlast).build()
runtime = WorkflowRuntime([outlasting], broker_url=Configuration.broker_url)
if os.environ["HOUSE_HAS_GUEST"] == "1":
    runtime.install(app)

app.config_from_object(Configuration)
app.conf.beat_schedule = {"breathe": {"task": "house.breathe", "schedule": 1.0}}


@app.task(name="house.echo", bind=True)
def echo(self: Any, value: Any) -> Any:
    info = self.request.delivery_info
    return {
        "value": value,
        "type": type(value).__name__,
        "mark": self.mark,
        "queue": info["routing_key"],
        "priority": info["priority"],
        "header": self.request.headers and self.request.headers.get("x-house"),
    }


@app.task(name="house.build_report", bind=True)
def build_report(self: Any) -> str:
    return str(self.request.delivery_info["routing_key"])


@app.task(name="house.add")
def add(a: int, b: int) -> int:
    return a + b


@app.task(name="house.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="house.fail")
def fail() -> None:
    raise ValueError("as it should")


@app.task(name="house.dawdle")
def dawdle() -> None:
    threading.Event().wait(30)


@app.task(name="house.price")
def price(amount: Decimal) -> str:
    return type(amount).__name__


@app.task(name="house.breathe", ignore_result=True)
def breathe() -> None:
    notes.incr("breaths")


@app.task(name="house.delegate")
def delegate() -> Any:
    return echo.apply_async((1,)).id


@signals.before_task_publish.connect
def add_header(headers: dict[str, Any], **_: Any) -> None:
    headers["x-house"] = "published"


@signals.task_prerun.connect
def note_start(task: Any, **_: Any) -> None:
    notes.rpush("started", task.name)


@signals.task_postrun.connect
def note_end(task: Any, **_: Any) -> None:
    notes.rpush("ended", task.name)
