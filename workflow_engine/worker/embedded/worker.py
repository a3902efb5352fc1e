"""A worker inside this process: a thread that takes messages off the broker of the app, and a pool that executes them.

It speaks to the broker by kombu's public interface and is no worker of Celery's: such a worker obeys flags of the whole
process, keeps its selection of queues in the app, and is stopped by a signal.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from kombu.exceptions import OperationalError

from workflow_engine.errors import ConfigurationError
from workflow_engine.store.connection.error_texts import loggable
from workflow_engine.worker.configuration_warnings import warn_about_configuration
from workflow_engine.worker.installation import get_installation
from workflow_engine.worker.process.sweeper import build_sweeper
from workflow_engine.worker.wire.broker_link import abandon
from workflow_engine.worker.wire.memory_transport import wake_consumers
from workflow_engine.worker.wire.message_guards import find_problem
from workflow_engine.worker.wire.queues import check_queues, find_queue
from workflow_engine.worker.wire.redis_refusals import mark_consuming_process
from workflow_engine.worker.wire.serving_transports import serve_queues
from workflow_engine.worker.wire.supported_brokers import check_broker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from celery import Celery
    from kombu import Connection
    from kombu.message import Message

logger = logging.getLogger("workflow_engine.worker")

START_SECONDS: Final = 15.0
#: How long the consumer waits for a message before it looks whether it should stop; memory:// wakes it at once.
LOOK_SECONDS: Final = 0.5


class ToldToStopError(Exception):
    """The worker was told to stop while it tried to connect."""


class EmbeddedWorker:
    """Executes stages and sweeps in threads of this process.

    ```python
    worker = EmbeddedWorker(app, concurrency=4)
    worker.start()
    ...
    worker.stop()
    ```

    Args:
        app: An app that the engine was installed into.
        concurrency: How many stages run at the same time.
    """

    def __init__(self, app: Celery, concurrency: int = 4) -> None:
        self._app = app
        self._concurrency = concurrency
        self._thread: threading.Thread | None = None
        self._told_to_stop = threading.Event()

    def start(self) -> None:
        """Start and wait until messages are consumed.

        Raises:
            ConfigurationError: It does not start; the cause is chained.
        """
        if self._thread is not None:
            raise ConfigurationError("the embedded worker runs already")
        check_broker(self._app)
        self._told_to_stop.clear()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="workflow-worker", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or self._error is not None:
            self.stop()
            raise ConfigurationError("the embedded worker does not start") from self._error

    def stop(self, grace: timedelta | None = None) -> bool:
        """Stop taking stages and wait for the running ones.

        Args:
            grace: How long to wait; None waits until they end.

        Returns:
            Whether all of them have ended. Those that have not go on in their threads until they end, or the process
            does; nobody else takes them meanwhile.
        """
        thread = self._thread
        if thread is None:
            return True
        self._told_to_stop.set()
        wake_consumers()
        thread.join(None if grace is None else grace.total_seconds())
        if thread.is_alive():
            return False
        self._thread = None
        return True

    def _run(self) -> None:
        self._app.set_current()
        installation = get_installation(self._app)
        sweeper = build_sweeper(installation)
        try:
            queues = installation.list_queues()
            warn_about_configuration(self._app)
            check_queues(self._app, queues)
            if sweeper is not None:
                sweeper.start()
            self._serve(queues)
        except ToldToStopError:
            pass
        except BaseException as error:
            logger.exception("the embedded worker ends", exc_info=loggable(error))
            self._error = error
        finally:
            if sweeper is not None:
                sweeper.stop()
            self._ready.set()

    def _serve(self, queues: list[str]) -> None:
        """Consume until told to stop, by a new connection after each that is lost; then wait for what is executed."""
        mark_consuming_process()
        with ThreadPoolExecutor(self._concurrency, "workflow-stage", initializer=self._app.set_current) as pool:
            while not self._told_to_stop.is_set():
                connection: Any = serve_queues(self._app.connection_for_read(heartbeat=0), queues)
                try:
                    self._connect(connection)
                    Consumption(self._app, connection, pool, self._concurrency).run(
                        queues, self._ready, self._told_to_stop
                    )
                except (OperationalError, *connection.connection_errors) as error:
                    logger.warning("the connection to the broker is lost: %s", error)
                finally:
                    abandon(connection)

    def _connect(self, connection: Any) -> None:
        """Connect, as often as the app says and with the pauses of its workers."""
        conf: Any = self._app.conf
        try:
            if conf.broker_connection_retry:
                connection.ensure_connection(
                    _tell_of_retry, conf.broker_connection_max_retries, callback=self._leave_if_told
                )
            else:
                connection.connect()
        except (OperationalError, *connection.connection_errors) as error:
            raise RuntimeError(f"gave up connecting to the broker: {error}") from error

    def _leave_if_told(self) -> None:
        if self._told_to_stop.is_set():
            raise ToldToStopError


class Consumption:
    """The messages that one connection delivers: executed by the pool, acknowledged by the thread that consumes.

    Only that thread may use the connection.

    Args:
        app: Its tasks are executed.
        connection: Serves this consumption alone.
        pool: Executes.
        limit: How many messages are held at the same time.
    """

    def __init__(self, app: Celery, connection: Connection, pool: ThreadPoolExecutor, limit: int) -> None:
        self._app = app
        self._connection = connection
        self._pool = pool
        self._limit = limit
        self._held = 0
        self._ended: SimpleQueue[Message] = SimpleQueue()

    def run(self, queues: Iterable[str], ready: threading.Event, told_to_stop: threading.Event) -> None:
        """Consume the queues until told to stop, then wait until no message is held."""
        consumer = self._connection.Consumer(
            [find_queue(self._app, name) for name in queues],
            accept=self._app.conf.accept_content,
            on_message=self._take,
            on_decode_error=self._refuse,
            prefetch_count=self._limit,
        )
        with consumer:
            ready.set()
            while not told_to_stop.is_set():
                if self._held < self._limit:
                    with suppress(TimeoutError):
                        self._connection.drain_events(timeout=LOOK_SECONDS)
                    self._acknowledge(0)
                else:
                    self._acknowledge(LOOK_SECONDS)
        while self._held:
            self._acknowledge(LOOK_SECONDS)

    def _take(self, message: Message) -> None:
        self._held += 1
        name = str(message.headers.get("task"))
        problem = find_problem(message, name) if name in self._app.tasks else "there is no such task"
        if problem is None:
            self._pool.submit(self._execute, self._app.tasks[name], message)
        else:
            logger.error("refused a message for %s: %s: %.200r", name, problem, message.body)
            self._ended.put(message)

    def _refuse(self, message: Message, error: Exception) -> None:
        logger.error("refused a message that cannot be read: %r", error)
        message.ack()

    def _execute(self, task: Any, message: Message) -> None:
        try:
            arguments, options, _ = message.payload
            task.apply(arguments, options, task_id=message.headers["id"])
        except BaseException as error:
            logger.exception("%s failed", task.name, exc_info=loggable(error))
        finally:
            self._ended.put(message)

    def _acknowledge(self, patience: float) -> None:
        """Acknowledge what has ended; wait for something to end if nothing has."""
        errors = (*self._connection.connection_errors, *self._connection.channel_errors)
        with suppress(Empty):
            while True:
                self._ended.get(timeout=patience).ack_log_error(logger, errors)
                self._held -= 1
                patience = 0


def _tell_of_retry(error: Exception, pause: float) -> None:
    logger.warning("the broker cannot be reached (%s): the next try is in %.0f s", error, pause)
