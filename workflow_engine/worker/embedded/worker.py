"""A worker inside this process: a thread that takes messages off the broker of the app, and a pool that executes them.

It speaks to the broker by kombu's public interface and is no worker of Celery's: such a worker obeys flags of the whole
process, keeps its selection of queues in the app, and is stopped by a signal.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from kombu.exceptions import OperationalError

from workflow_engine.errors import ConfigurationError
from workflow_engine.store.connection.error_texts import loggable
from workflow_engine.worker.configuration_warnings import warn_about_content
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
    from collections.abc import Collection
    from datetime import timedelta

    from celery import Celery
    from kombu import Connection, Queue
    from kombu.message import Message

logger = logging.getLogger("workflow_engine.worker")

START_SECONDS: Final = 15.0
#: How long the consumer waits for a message before it looks whether it should stop; memory:// wakes it at once.
LOOK_SECONDS: Final = 0.5
#: kombu asks Redis for a message that arrives within a second.
UNREAD_SECONDS: Final = 1.2
#: A broker that accepts connections and breaks them is not asked more often than this.
LOSS_SECONDS: Final = 0.5


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
        self._sweeper = build_sweeper(get_installation(app))
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
        self._stop_sweeping()
        thread.join(None if grace is None else grace.total_seconds())
        if thread.is_alive():
            return False
        self._thread = None
        return True

    def _run(self) -> None:
        self._app.set_current()
        installation = get_installation(self._app)
        try:
            queues = installation.list_queues()
            self._app.loader.import_default_modules()  # the app's own tasks, as every worker does
            warn_about_content(self._app)
            check_queues(self._app, queues)
            if self._sweeper is not None:
                self._sweeper.start()
            self._serve(queues)
        except ToldToStopError:
            pass
        except BaseException as error:
            logger.exception("the embedded worker ends", exc_info=loggable(error))
            self._error = error
        finally:
            self._stop_sweeping()
            self._ready.set()

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.stop()

    def _serve(self, queues: list[str]) -> None:
        """Consume until told to stop, by a new connection after each that is lost; then wait for what is executed."""
        mark_consuming_process()
        with ThreadPoolExecutor(self._concurrency, "workflow-stage", initializer=self._app.set_current) as pool:
            consumption = Consumption(self._app, pool, self._concurrency)
            while not self._told_to_stop.is_set():
                connection: Any = serve_queues(self._app.connection_for_read(heartbeat=0), queues)
                try:
                    self._connect(connection)
                    consumption.run(connection, queues, self._ready, self._told_to_stop)
                except (OperationalError, *connection.connection_errors) as error:
                    logger.warning("the connection to the broker is lost: %s", error)
                finally:
                    abandon(connection)
                self._told_to_stop.wait(LOSS_SECONDS)

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
    """The messages that a worker holds: executed by the pool, acknowledged by the thread that consumes.

    Only that thread may use a connection. Those that came by a connection that was lost occupy their slots until they
    end, and are acknowledged to nobody: the broker has put them back.

    Args:
        app: Its tasks are executed.
        pool: Executes.
        limit: How many messages are held at the same time.
    """

    def __init__(self, app: Celery, pool: ThreadPoolExecutor, limit: int) -> None:
        self._app = app
        self._pool = pool
        self._limit = limit
        self._connection: Any = None
        #: The messages that came by the present connection, and by those before.
        self._held = self._left = 0
        self._ended: SimpleQueue[tuple[Any, Message]] = SimpleQueue()

    def run(
        self, connection: Connection, queues: Collection[str], ready: threading.Event, told_to_stop: threading.Event
    ) -> None:
        """Consume the queues by a connection until told to stop, then wait until no message is held."""
        self._connection, self._held, self._left = connection, 0, self._held + self._left
        declared = [find_queue(self._app, name) for name in queues]
        while self._left >= self._limit and not told_to_stop.is_set():
            self._note_ended(LOOK_SECONDS)
        if not told_to_stop.is_set():
            self._consume(declared, ready, told_to_stop)
            self._put_back_unread()
        while self._held or self._left:
            self._note_ended(LOOK_SECONDS)

    def _consume(self, queues: list[Queue], ready: threading.Event, told_to_stop: threading.Event) -> None:
        consumer = self._connection.Consumer(
            queues, accept=self._app.conf.accept_content, on_message=self._take, on_decode_error=self._refuse
        )
        # RabbitMQ would else allow that many for each queue; it refuses the sum of all where one is a quorum queue.
        is_sum = not any((queue.queue_arguments or {}).get("x-queue-type") == "quorum" for queue in queues)
        left = self._left
        consumer.qos(prefetch_count=self._limit - left, apply_global=is_sum)
        with consumer:
            ready.set()
            while not told_to_stop.is_set():
                if self._left != left:
                    left = self._left
                    consumer.qos(prefetch_count=self._limit - left, apply_global=is_sum)
                if self._held + left < self._limit:
                    with suppress(TimeoutError):
                        self._connection.drain_events(timeout=LOOK_SECONDS)
                    self._note_ended(0)
                else:
                    self._note_ended(LOOK_SECONDS)

    def _put_back_unread(self) -> None:
        """Read what was asked for before the end: kombu puts a message back that comes for nobody.

        Without that a message would lie in the connection until the last stage has ended.
        """
        until = time.monotonic() + UNREAD_SECONDS
        while (self._held or self._left) and time.monotonic() < until:
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=UNREAD_SECONDS / 20)
            self._note_ended(0)

    def _take(self, message: Message) -> None:
        self._held += 1
        name = str(message.headers.get("task"))
        problem = find_problem(message, name) if name in self._app.tasks else "there is no such task"
        if problem is None:
            self._pool.submit(self._execute, self._app.tasks[name], message, self._connection)
        else:
            logger.error("refused a message for %s: %s: %.200r", name, problem, message.body)
            self._ended.put((self._connection, message))

    def _refuse(self, message: Message, error: Exception) -> None:
        logger.error("refused a message that cannot be read: %r", error)
        message.ack()

    def _execute(self, task: Any, message: Message, connection: Any) -> None:
        try:
            arguments, options, _ = message.payload
            task.apply(arguments, options, task_id=message.headers["id"])
        except BaseException as error:
            logger.exception("%s failed", task.name, exc_info=loggable(error))
        finally:
            self._ended.put((connection, message))

    def _note_ended(self, patience: float) -> None:
        """Acknowledge what has ended; wait for something to end if nothing has."""
        errors = (*self._connection.connection_errors, *self._connection.channel_errors)
        with suppress(Empty):
            while True:
                connection, message = self._ended.get(timeout=patience)
                if connection is self._connection:
                    message.ack_log_error(logger, errors)
                    self._held -= 1
                else:
                    self._left -= 1
                patience = 0


def _tell_of_retry(error: Exception, pause: float) -> None:
    logger.warning("the broker cannot be reached (%s): the next try is in %.0f s", error, pause)
