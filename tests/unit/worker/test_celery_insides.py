"""The insides of Celery, kombu and redis that the worker leans on: each is listed here with the shape that it has.

The worker overrides methods of theirs and reads attributes that no page documents; a release of theirs may change them
at any time. Here the list is compared with the releases that are installed; ``test_celery_fence.py`` compares it with
the code.
"""

from __future__ import annotations

import importlib
import inspect
import re
from importlib.metadata import version
from typing import Any, NamedTuple

import pytest

PACKAGES = frozenset({"amqp", "billiard", "celery", "kombu", "redis", "vine"})

#: Instead of a signature: what is no function.
CLASS = "class"
PROPERTY = "property"
VALUE = "value"
#: A method whose parameters do not matter: they are passed on as they come.
METHOD = "method"
#: Set by the methods of the class for each instance.
ATTRIBUTE = "attribute"
MISSING = object()


class Inside(NamedTuple):
    """A name of theirs that the worker depends on."""

    #: Where it is defined, as ``module:Class.name``.
    path: str
    #: Its parameters, as they are in every release within our bounds; several where releases differ.
    shapes: str | tuple[str, ...]
    #: The files of the worker that use it.
    used_in: str
    #: What would not work without it.
    gives: str


REDIS = "wire/serving_transports.py"
MEMORY = "wire/memory_transport.py"
REQUESTS = "process/stage_requests.py"
CHANNEL = "kombu.transport.redis:Channel"
QOS = "kombu.transport.redis:QoS"

INSIDES = [
    # Redis: the channel that a worker consumes by.
    Inside(
        f"{CHANNEL}._brpop_start",
        ("(self, timeout=None)", "(self, timeout=1)"),
        REDIS,
        "waiting for a message in all ten lists",
    ),
    Inside(f"{CHANNEL}._q_for_pri", "(self, queue, pri)", REDIS, "the name of the list of a priority"),
    Inside(f"{CHANNEL}._get", "(self, queue)", REDIS, "taking a message from ten lists"),
    Inside(f"{CHANNEL}._put", "(self, queue, message, **kwargs)", REDIS, "putting a message back into ten lists"),
    Inside(f"{CHANNEL}._size", "(self, queue)", REDIS, "counting ten lists"),
    Inside(f"{CHANNEL}._purge", "(self, queue)", REDIS, "emptying ten lists"),
    Inside(
        f"{CHANNEL}._delete",
        "(self, queue, exchange, routing_key, pattern, *args, **kwargs)",
        REDIS,
        "deleting ten lists",
    ),
    Inside(f"{CHANNEL}._has_queue", "(self, queue, **kwargs)", REDIS, "finding a queue in ten lists"),
    Inside(f"{CHANNEL}._get_client", "(self)", REDIS, "the guard against malformed entries"),
    Inside(
        f"{CHANNEL}._connparams",
        "(self, asynchronous=False)",
        REDIS,
        "closing a connection that Redis refuses to serve",
    ),
    Inside(f"{CHANNEL}.priority_steps", VALUE, REDIS, "ten lists for the engine's queues and the app's own for others"),
    Inside(f"{CHANNEL}.sep", VALUE, "wire/queue_contents.py", "the names of lists"),
    Inside(f"{CHANNEL}.global_keyprefix", VALUE, "wire/queue_contents.py", "the names of keys"),
    Inside(
        f"{CHANNEL}.conn_or_acquire",
        "(self, client=None)",
        "wire/queue_contents.py",
        "counting lists in one round trip",
    ),
    Inside(f"{CHANNEL}.QoS", CLASS, REDIS, "outliving a lost connection with unacknowledged messages"),
    Inside(f"{QOS}.ack", "(self, delivery_tag)", REDIS, "acknowledging by a connection that may be lost"),
    Inside(f"{QOS}.reject", "(self, delivery_tag, requeue=False)", REDIS, "rejecting by a connection that may be lost"),
    Inside(f"{QOS}.restore_unacked", "(self, client=None)", REDIS, "cleaning up after a lost connection"),
    Inside(f"{QOS}._delivered", ATTRIBUTE, REDIS, "forgetting messages that cannot be put back"),
    Inside("kombu.transport.virtual:QoS.ack", "(self, delivery_tag)", REDIS, "counting a message as done with"),
    Inside("kombu.transport.redis:PrefixedStrictRedis", CLASS, REDIS, "the guard where keys have a prefix"),
    Inside(
        "redis.client:Redis.parse_response",
        "(self, connection, command_name, **options)",
        REDIS,
        "the guard against malformed entries",
    ),
    Inside(
        "redis.connection:Connection.read_response",
        METHOD,
        "wire/redis_refusals.py",
        "seeing that Redis refuses to work",
    ),
    Inside(
        "kombu.transport.virtual.base:Transport.establish_connection", "(self)", REDIS, "trying whether Redis can write"
    ),
    Inside(
        "kombu.transport.virtual.base:Transport._avail_channels", ATTRIBUTE, REDIS, "trying whether Redis can write"
    ),
    Inside(
        "kombu.transport.virtual.base:Transport._deliver",
        "(self, message, queue)",
        f"{REDIS} and {MEMORY}",
        "the guard against malformed envelopes",
    ),
    # RabbitMQ.
    Inside(
        "amqp.channel:Channel._on_close",
        "(self, reply_code, reply_text, class_id, method_id)",
        REDIS,
        "going on after a message was held for too long",
    ),
    Inside("kombu.transport.pyamqp:Connection.Channel", CLASS, REDIS, "a channel of our own"),
    Inside("kombu.transport.pyamqp:Transport.Connection", CLASS, REDIS, "a channel of our own"),
    # memory://
    Inside("kombu.connection:Connection.get_transport_cls", "(self)", f"{REDIS} and {MEMORY}", "transports of our own"),
    Inside("kombu.transport.memory:Channel._new_queue", "(self, queue, **kwargs)", MEMORY, "queues with priorities"),
    Inside("kombu.transport.memory:Channel._queue_for", "(self, queue)", MEMORY, "queues with priorities"),
    Inside("kombu.transport.memory:Channel.queues", VALUE, MEMORY, "queues of our own"),
    Inside("kombu.transport.memory:Transport.Channel", CLASS, MEMORY, "a channel of our own"),
    Inside(
        "kombu.transport.virtual.base:Transport.drain_events",
        "(self, connection, timeout=None)",
        MEMORY,
        "waking up at once instead of polling",
    ),
    Inside("kombu.transport.virtual.base:Transport.cycle", ATTRIBUTE, MEMORY, "waking up at once instead of polling"),
    # Requests of stages in the worker's main process.
    Inside(
        "celery.worker.request:Request.cancel",
        ("(self, pool, signal=None, emit_retry=True)", "(self, pool, signal=None)"),
        REQUESTS,
        "lost connections",
    ),
    Inside(
        "celery.worker.request:Request.on_failure",
        "(self, exc_info, send_failed_event=True, return_ok=False)",
        REQUESTS,
        "giving back at once what a dead process held",
    ),
    Inside("celery.worker.request:Request.terminate", "(self, pool, signal=None)", REQUESTS, "cancelling in threads"),
    Inside("celery.worker.request:Request._apply_result", VALUE, REQUESTS, "lifting the pool's time limits"),
    Inside("celery.worker.request:Request._body", ATTRIBUTE, REQUESTS, "accepting JSON whatever the app accepts"),
    Inside(
        "celery.worker.request:Request._content_type", ATTRIBUTE, REQUESTS, "accepting JSON whatever the app accepts"
    ),
    Inside(
        "celery.worker.request:Request._content_encoding",
        ATTRIBUTE,
        REQUESTS,
        "accepting JSON whatever the app accepts",
    ),
    Inside("celery.worker.request:Request.worker_pid", VALUE, REQUESTS, "knowing which process died"),
    Inside("billiard.pool:ApplyResult._soft_timeout", ATTRIBUTE, REQUESTS, "lifting the pool's time limits"),
    Inside("billiard.pool:ApplyResult._timeout", ATTRIBUTE, REQUESTS, "lifting the pool's time limits"),
    Inside(
        "celery.worker.strategy:default",
        "(task, app, consumer, info=, error=, task_reserved=, to_system_tz=, bytes=, proto1_to_proto2=)",
        "wire/message_guards.py",
        "the guard against forged messages",
    ),
    # The worker and its queues.
    Inside(
        "celery.worker.consumer:Consumer.ensure_connected", "(self, conn)", "process/consumer_connection.py", "outages"
    ),
    Inside(
        "celery.worker.consumer:Consumer.connection_for_read",
        "(self, heartbeat=None)",
        "process/consumer_connection.py",
        "the connection that serves the engine's queues",
    ),
    Inside("celery.worker.consumer:Consumer.connection_errors", ATTRIBUTE, "process/consumer_connection.py", "outages"),
    Inside("celery.bootsteps:Step.name", VALUE, "process/worker_step.py", "the step of the worker"),
    Inside("celery.bootsteps:StartStopStep.name", VALUE, "process/worker_step.py", "the step of the worker"),
    Inside("celery.bootsteps:StartStopStep.start", "(self, parent)", "process/worker_step.py", "the worker's start"),
    Inside("celery.bootsteps:StartStopStep.stop", "(self, parent)", "process/worker_step.py", "the worker's end"),
    Inside("celery.bootsteps:StartStopStep.terminate", "(self, parent)", "process/worker_step.py", "the worker's end"),
    Inside("celery.concurrency.prefork:TaskPool", CLASS, "process/worker_step.py", "knowing that the process forks"),
    Inside("celery.concurrency.prefork:TaskPool._pool", VALUE, "process/shutdown.py", "giving back what children held"),
    Inside("billiard.pool:Pool._pool", ATTRIBUTE, "process/shutdown.py", "giving back what children held"),
    Inside("celery.utils.text:str_to_list", "(s)", "process/worker_step.py", "reading -Q as Celery does"),
    Inside("celery.app.amqp:Queues._consume_from", VALUE, "process/worker_step.py", "knowing whether -Q was given"),
    Inside("celery.app.amqp:Queues.select_add", "(self, queue, **kwargs)", "process/worker_step.py", "adding queues"),
    Inside("celery.app.amqp:Queues.deselect", "(self, exclude)", "process/supported_pools.py", "leaving queues out"),
    Inside("celery.app.amqp:AMQP.Connection", CLASS, MEMORY, "memory:// of our own"),
    Inside("celery.app.base:Celery._preconf", ATTRIBUTE, "wire/supported_brokers.py", "refusing a broker at install()"),
    # Tasks.
    Inside("celery.app.task:Task.abstract", VALUE, "tasks.py", "a base class that is no task"),
    Inside("celery.app.task:Task.annotate", "(cls)", "tasks.py", "being exempt from task_annotations"),
    Inside("celery.app.task:Task.from_config", VALUE, "tasks.py", "being exempt from the app's defaults"),
    Inside(
        "celery.app.task:Task.apply_async",
        "(self, args=None, kwargs=None, task_id=None, producer=None, link=None, link_error=None, shadow=None, **options)",
        "tasks.py",
        "ticks that are published like hints",
    ),
    # Beat.
    Inside(
        "celery.beat:Scheduler.update_from_dict", "(self, dict_)", "beat_schedule.py", "the sweep in beat's schedule"
    ),
    Inside("celery.beat:_Threaded.service", ATTRIBUTE, "embedded/beat.py", "ending the embedded beat"),
    Inside("celery.beat:Service.stop", "(self, wait=False)", "embedded/beat.py", "ending the embedded beat"),
]


def find(path: str) -> Any:
    """Return what stands at the path."""
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = inspect.getattr_static(found, name, MISSING)
    return found


def is_theirs(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in PACKAGES


def is_set_by_methods(path: str) -> bool:
    owner, _, name = path.rpartition(".")
    written = re.compile(rf"\bself\.{name}\b[^=\n]*(?<![=!<>])=(?!=)")
    return any(written.search(source_of(cls)) for cls in find(owner).__mro__ if is_theirs(cls))


def source_of(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except OSError:  # the metaclass of Celery's steps gives them names that Python does not find
        return ""


def shape_of(found: Any) -> str:
    """Return the parameters, with defaults that are plain values; else what kind of thing it is."""
    if isinstance(found, property):
        return PROPERTY
    if inspect.isclass(found):
        return CLASS
    function = getattr(found, "__func__", found)
    if not inspect.isroutine(function):
        return VALUE
    return f"({', '.join(map(spell, inspect.signature(function).parameters.values()))})"


def spell(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    if parameter.default is inspect.Parameter.empty:
        return f"{stars}{parameter.name}"
    is_plain = isinstance(parameter.default, bool | int | float | str | None)
    return f"{parameter.name}={parameter.default if is_plain else ''}"


def find_change(inside: Inside) -> str | None:
    """Return one sentence about what has become of it in the installed release; None if it is as listed."""
    shapes = (inside.shapes,) if isinstance(inside.shapes, str) else inside.shapes
    if shapes == (ATTRIBUTE,):
        now = ATTRIBUTE if is_set_by_methods(inside.path) else None
    else:
        found = find(inside.path)
        now = None if found is MISSING else shape_of(found)
    if now in shapes or (shapes == (METHOD,) and now is not None and now.startswith("(")):
        return None
    package = inside.path.partition(".")[0].partition(":")[0]
    what = "is gone" if now is None else f"is now {now}"
    return (
        f"{package} {version(package)}: {inside.path} {what} (known: {' or '.join(shapes)}); "
        f"workflow_engine/worker/{inside.used_in} depends on it: {inside.gives}."
    )


@pytest.mark.parametrize("inside", INSIDES, ids=lambda inside: inside.path)
def test_an_inside_of_celery_s_is_as_the_worker_knows_it(inside: Inside) -> None:
    change = find_change(inside)

    assert change is None, change


def test_a_changed_name_is_told_in_one_sentence_with_its_release_and_its_use() -> None:
    changed = Inside("kombu.transport.redis:Channel._get", "(self, queue, timeout)", REDIS, "taking a message")
    gone = Inside("kombu.transport.redis:Channel._take", "(self, queue)", REDIS, "taking a message")

    assert find_change(changed) == (
        f"kombu {version('kombu')}: kombu.transport.redis:Channel._get is now (self, queue) "
        "(known: (self, queue, timeout)); workflow_engine/worker/wire/serving_transports.py depends on it: "
        "taking a message."
    )
    assert find_change(gone) == (
        f"kombu {version('kombu')}: kombu.transport.redis:Channel._take is gone (known: (self, queue)); "
        "workflow_engine/worker/wire/serving_transports.py depends on it: taking a message."
    )


def test_an_attribute_that_is_no_longer_set_is_found() -> None:
    known = Inside("kombu.transport.redis:QoS._delivered", ATTRIBUTE, REDIS, "forgetting messages")

    assert find_change(known) is None
    assert "is gone" in str(find_change(known._replace(path="kombu.transport.redis:QoS._handed_out")))


def test_a_default_that_differs_is_another_shape() -> None:
    known = Inside("kombu.transport.redis:QoS.reject", "(self, delivery_tag, requeue=True)", REDIS, "rejecting")

    assert "is now (self, delivery_tag, requeue=False)" in str(find_change(known))
