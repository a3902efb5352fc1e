"""Strategies: what a worker does with a message for one of our tasks before it becomes a request.

Whoever can write to the broker can forge messages. A hint has no authority (the claim asks the database), so the guard
refuses what Celery would act on by itself: canvas fields that run other tasks, an eta that stays unacknowledged for
ever, time limits that kill a pool child, bodies of a shape that ends the worker.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any, Final

from celery.worker.strategy import default

from workflow_engine.worker.names import EXECUTE_STAGE, SWEEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from kombu.message import Message

logger = logging.getLogger("workflow_engine.broker")

#: Our messages carry ids and take a few hundred bytes.
LARGEST_BODY: Final = 4096
LARGEST_HEADERS: Final = 4096
UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: What the database's integer holds; nothing is ever dispatched that often.
LARGEST_NUMBER: Final = 2**31 - 1
JSON: Final = frozenset({"application/json"})
FORBIDDEN_HEADERS: Final = ("eta", "expires", "group", "chord", "stamps", "stamped_headers", "shadow", "compression")
CANVAS: Final = ("callbacks", "errbacks", "chain", "chord")


def guarded_strategy(task: Any, app: Celery, consumer: Any) -> Any:
    """Handle messages of one of our tasks as Celery does, after the guard."""
    handle = default(task, app, consumer)

    def handle_guarded(message: Message, body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any) -> Any:
        problem = find_problem(message, task.name)
        if problem is None:
            return handle(message, body, ack, reject, callbacks, **options)
        logger.error("refused a message for %s: %s: %.200r", task.name, problem, message.body)
        ack(logger, consumer.connection_errors)
        return None

    return handle_guarded


def find_problem(message: Message, task: str) -> str | None:
    """Return why a message for one of our tasks is none that publishers or beat send; None also for other tasks."""
    find_arguments_problem = ARGUMENTS.get(task)
    if find_arguments_problem is None:
        return None
    message.accept = JSON  # whatever the app accepts for its own tasks
    return _find_headers_problem(message) or _find_body_problem(message, find_arguments_problem)


def find_stage_problem(arguments: Any) -> str | None:
    """Return why these are no arguments of the stage task, or None."""
    if not isinstance(arguments, list) or len(arguments) != 2:  # noqa: PLR2004 - the two of the task
        return "the arguments are not [stage run id, dispatch number]"
    stage_run_id, number = arguments
    if not isinstance(stage_run_id, str) or not UUID.fullmatch(stage_run_id):
        return "the first argument is no stage run id"
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= LARGEST_NUMBER:
        return "the second argument is no dispatch number"
    return None


def find_sweep_problem(arguments: Any) -> str | None:
    """Return why these are no arguments of the sweep task, or None."""
    return None if arguments == [] else "the sweep takes no arguments"


#: How the arguments of each of our tasks are checked.
ARGUMENTS: Final[dict[str, Callable[[Any], str | None]]] = {
    EXECUTE_STAGE: find_stage_problem,
    SWEEP: find_sweep_problem,
}


def _find_headers_problem(message: Message) -> str | None:
    headers: dict[str, Any] = message.headers
    if len(repr(headers)) > LARGEST_HEADERS:
        return "the headers are too large"
    found = [name for name in FORBIDDEN_HEADERS if headers.get(name)]
    if found:
        return f"{found[0]} is not ours"
    if headers.get("timelimit") not in (None, [None, None]):
        return "a time limit is not ours"
    if not isinstance(headers.get("id"), str):
        return "the task id is missing"
    return None


def _find_body_problem(message: Message, find_arguments_problem: Callable[[Any], str | None]) -> str | None:
    if message.content_type != "application/json" or message.content_encoding != "utf-8":
        return "the content is not JSON in UTF-8"
    content = _read_body(message.body)
    if content is None or len(content) > LARGEST_BODY:
        return "the body is too large, or none"
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return "the body is not JSON"
    if not isinstance(body, list) or len(body) != 3:  # noqa: PLR2004 - args, kwargs, embed of task protocol 2
        return "the body is not [args, kwargs, embed]"
    arguments, options, embedded = body
    if options or not isinstance(embedded, dict) or any(embedded.get(name) for name in CANVAS):
        return "keyword arguments and canvas fields are not ours"
    return find_arguments_problem(arguments)


def _read_body(body: Any) -> bytes | None:
    """Return the bytes of a body in any form that kombu delivers: Redis gives bytes, RabbitMQ text or a view."""
    if isinstance(body, str):
        return body.encode(errors="surrogatepass")
    return bytes(body) if isinstance(body, bytes | bytearray | memoryview) else None
