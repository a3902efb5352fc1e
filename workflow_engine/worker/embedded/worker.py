"""A worker inside this process: the broker of the app, a pool of threads, no signal handler, no logging set up."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from celery import bootsteps
from celery.concurrency.thread import TaskPool
from celery.exceptions import WorkerShutdown
from celery.worker import WorkController
from celery.worker.consumer import Consumer

from workflow_engine.errors import ConfigurationError
from workflow_engine.store.connection.error_texts import loggable
from workflow_engine.worker.installation import get_installation
from workflow_engine.worker.process.worker_step import select_queues
from workflow_engine.worker.wire.memory_transport import wake_consumers
from workflow_engine.worker.wire.supported_brokers import Broker, broker_of

if TYPE_CHECKING:
    from datetime import timedelta

    from celery import Celery

logger = logging.getLogger("workflow_engine.worker")

START_SECONDS: Final = 15.0
#: How long the consumer waits for a message before it looks whether it should stop; memory:// wakes it at once.
LOOK_SECONDS: Final = 0.5
#: On RabbitMQ it also has to look for stages that have ended, as only its thread may tell the broker about them.
RABBIT_LOOK_SECONDS: Final = 0.05


class EmbeddedPool(TaskPool):
    """Threads that know their app: Celery looks it up by thread, and finds another one's otherwise."""

    executor: ThreadPoolExecutor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.executor.shutdown()
        self.executor = ThreadPoolExecutor(
            max_workers=self.limit, thread_name_prefix="workflow-stage", initializer=self.app.set_current
        )


class EmbeddedConsumer(Consumer):
    """A consumer without the steps that talk to other workers, and with a loop of its own.

    Celery's loops end when a flag of the whole process says so; this one ends when its controller says so.
    """

    #: Set by the steps and by the worker.
    app: Any
    task_consumer: Any
    qos: Any
    connection: Any
    controller: Any

    class Blueprint(bootsteps.Blueprint):
        """The steps that consuming tasks needs."""

        name: ClassVar[str | None] = "Consumer"
        default_steps: Any = [  # noqa: RUF012 - Celery's own are a list as well
            "celery.worker.consumer.connection:Connection",
            "celery.worker.consumer.tasks:Tasks",
            "celery.worker.consumer.consumer:Evloop",
        ]

        def shutdown(self, parent: Any) -> None:
            """Close what the steps hold."""
            self.send_all(parent, "shutdown")

    def __init__(self, *args: Any, **options: Any) -> None:
        self._acknowledged = threading.Event()
        super().__init__(*args, **options)

    def loop(self, *_: Any) -> None:
        """Hand out messages until the controller is told to stop."""
        self.task_consumer.on_message = self.create_task_handler()
        self.task_consumer.consume()
        self.on_ready()
        while not self.controller.told_to_stop.is_set():
            if self.qos.prev != self.qos.value:
                self.qos.update()
            self.perform_pending_operations()
            self._drain()
        raise WorkerShutdown(0)

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, as often as the app says, until the controller is told to stop: Celery looks at the process' flags."""
        conf = self.app.conf
        if not conf.broker_connection_retry:
            conn.connect()
            return conn
        conn.ensure_connection(_tell_of_retry, conf.broker_connection_max_retries, callback=self._leave_if_told)
        return conn

    def _leave_if_told(self) -> None:
        if self.controller.told_to_stop.is_set():
            raise WorkerShutdown(0)

    def call_soon(self, *args: Any, **options: Any) -> Any:
        """Do something, an acknowledgement for instance, in the loop; called by the threads that run stages."""
        operation = super().call_soon(*args, **options)
        self._acknowledged.set()
        return operation

    def call_soon_ack(self, *args: Any, **options: Any) -> Any:
        """Acknowledge now (Celery 5.7 and later); on RabbitMQ in the loop, whose thread alone may use the connection."""
        if self._is_rabbit():
            return self.call_soon(*args, **options)
        operation = super().call_soon_ack(*args, **options)  # type: ignore[misc]
        self._acknowledged.set()
        return operation

    def _drain(self) -> None:
        """Deliver a message if a slot is free; wait for a slot otherwise: kombu would not notice it becoming free."""
        self._acknowledged.clear()
        if self._is_rabbit():  # hands out no more than it was told to
            patience = RABBIT_LOOK_SECONDS
        elif self.task_consumer.channel.qos.can_consume():
            patience = LOOK_SECONDS
        else:
            self._acknowledged.wait(LOOK_SECONDS)
            return
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=patience)

    def _is_rabbit(self) -> bool:
        return broker_of(self.task_consumer.channel) is Broker.RABBITMQ


def _tell_of_retry(error: Exception, pause: float) -> None:
    logger.warning("the broker cannot be reached (%s): the next try is in %.0f s", error, pause)


class EmbeddedController(WorkController):
    """A worker that is told to stop by an event of its own."""

    def __init__(self, told_to_stop: threading.Event, **options: Any) -> None:
        self.told_to_stop = told_to_stop
        super().__init__(**options)

    blueprint: Any


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
        self._told_to_stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Start and wait until messages are consumed.

        Raises:
            ConfigurationError: It does not start; the cause is chained.
        """
        if self._thread is not None:
            raise ConfigurationError("the embedded worker runs already")
        self._told_to_stop.clear()
        self._ready.clear()
        self._error = None
        controller = self._build()
        self._thread = threading.Thread(target=self._run, args=(controller,), name="workflow-worker", daemon=True)
        self._thread.start()
        started = self._ready.wait(START_SECONDS)
        if not started or self._error is not None:
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

    def _build(self) -> EmbeddedController:
        queues = get_installation(self._app).list_queues()
        select_queues(self._app, queues)  # an app may refuse queues that it does not know
        return EmbeddedController(
            self._told_to_stop,
            app=self._app,
            pool=EmbeddedPool,
            consumer_cls=EmbeddedConsumer,
            concurrency=self._concurrency,
            queues=queues,
            use_eventloop=False,
            ready_callback=lambda _: self._ready.set(),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )

    def _run(self, controller: EmbeddedController) -> None:
        self._app.set_current()
        try:
            controller.blueprint.start(controller)
        except WorkerShutdown:
            pass
        except BaseException as error:
            logger.exception("the embedded worker ends", exc_info=loggable(error))
            self._error = error
        finally:
            controller.signal_consumer_close()
            controller.blueprint.stop(controller)
            self._ready.set()
