"""The connection that a worker consumes by: ten lists and guards for the engine's queues, kombu's ways for all others.

No other connection of an app is changed.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from amqp.exceptions import PreconditionFailed, RecoverableConnectionError
from kombu.transport import pyamqp, redis, virtual
from kombu.utils.encoding import bytes_to_str
from redis import Redis

from workflow_engine.worker.wire.broker_priorities import STEPS
from workflow_engine.worker.wire.envelopes import find_entry_problem, find_envelope_problem
from workflow_engine.worker.wire.redis_refusals import check_writes, close_on_refusal, is_consuming_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kombu import Connection

logger = logging.getLogger("workflow_engine.broker")

#: How much of a dropped entry is shown in the log.
SHOWN: Final = 200

#: The steps that kombu's loops over a queue's lists see at the moment.
_steps: ContextVar[list[int] | None] = ContextVar("workflow_engine_steps", default=None)


def _drop(problem: str, where: object, entry: object) -> None:
    logger.error("dropped a malformed message from %s: %s: %.*r", where, problem, SHOWN, entry)


class GuardedReplies:
    """Mixed into the Redis client: an entry of the engine's lists that is no JSON object counts as nothing received.

    Args:
        guards: Whether the list of that name is one of the engine's.
    """

    def __init__(self, *args: Any, guards: Callable[[bytes | str], bool], **options: Any) -> None:
        super().__init__(*args, **options)
        self._guards = guards

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """Parse the answer to a command; drop a malformed entry that BRPOP took from one of the engine's lists."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[misc]
        if not answer or command_name != "BRPOP" or not self._guards(answer[0]):
            return answer
        source, entry = answer
        problem = find_entry_problem(entry)
        if problem is None:
            return answer
        _drop(problem, source, entry)
        return None


class GuardedClient(GuardedReplies, Redis):
    """A Redis client with the guard."""


class GuardedPrefixedClient(GuardedReplies, redis.PrefixedStrictRedis):
    """A Redis client that prefixes keys, with the guard."""


class GuardedQoS(redis.QoS):
    """Keeps account of unacknowledged messages, and outlives a connection that is lost while there are some."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; nobody is there to be told once the connection that it came by is gone."""
        if not self._is_lost():
            with self._outliving(delivery_tag):
                super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Reject a message; as ``ack``."""
        if not self._is_lost():
            with self._outliving(delivery_tag):
                super().reject(delivery_tag, requeue)

    @contextmanager
    def _outliving(self, delivery_tag: str) -> Iterator[None]:
        """Count the message as done with when Redis cannot be told.

        kombu would count it as taken for ever, and with as many as the worker may take it would ask Redis for nothing
        again, and so never find out that the connection is lost.
        """
        channel: Any = self.channel
        try:
            yield
        except channel.connection_errors as error:
            logger.warning("Redis was not told about a message that was done with: %s", error)
            virtual.QoS.ack(self, delivery_tag)

    def _is_lost(self) -> bool:
        # A task that ends after the worker has connected anew acknowledges by the old channel. kombu would look up
        # the address there, and end the worker on an AttributeError.
        connection: Any = self.channel.connection
        return connection is None or connection.client is None

    def restore_unacked(self, client: Any = None) -> None:
        """Put unacknowledged messages back; where that fails, the visibility timeout does it later.

        kombu calls this while it cleans up after a lost connection, whose parts may be gone already. Its errors are not
        those that a lost connection is expected to raise, and would end the worker.
        """
        try:
            super().restore_unacked(client)
        except Exception as error:  # noqa: BLE001 - see above
            delivered: Any = self._delivered
            logger.warning("%d unacknowledged messages stay where they are: %r", len(delivered), error)
            delivered.clear()


def _seeing_its_steps(name: str) -> Any:
    """Return kombu's method of that name, whose first argument is a queue, with loops that see the steps of the queue."""

    def method(self: ServingChannel, queue: str, *args: Any, **options: Any) -> Any:
        with self.seeing(_steps.get() or self.steps_of(queue)):
            return getattr(super(ServingChannel, self), name)(queue, *args, **options)

    return method


class ServingChannel(redis.Channel):
    """A Redis channel on which the engine's queues have ten lists each, and the app's own as many as the app says."""

    QoS: Any = GuardedQoS
    #: Names of the engine's queues.
    engine_queues: frozenset[str] = frozenset()
    #: The steps of all other queues: those of the app's transport options, or kombu's default.
    app_steps: list[int] = redis.Channel.priority_steps

    @property
    def priority_steps(self) -> list[int]:  # kombu sets it from the transport options
        """The steps of the queue in hand."""
        return _steps.get() or self.app_steps

    @priority_steps.setter
    def priority_steps(self, steps: list[int]) -> None:
        self.app_steps = steps

    @contextmanager
    def seeing(self, steps: list[int]) -> Iterator[None]:
        """Show these steps to kombu's loops."""
        token = _steps.set(steps)
        try:
            yield
        finally:
            _steps.reset(token)

    def steps_of(self, queue: str) -> list[int]:
        """Return the steps of the queue."""
        return list(range(STEPS)) if queue in self.engine_queues else self.app_steps

    def _brpop_start(self, *args: Any, **options: Any) -> None:  # kombu's default timeout differs by release
        """Wait for a message in any list of the consumed queues.

        The lists of all steps are read for the app's queues too: release 0.1.0 of the engine made the publishers of an
        app use all ten. Where nobody does, these lists do not exist.
        """
        with self.seeing(sorted({*range(STEPS), *self.app_steps})):
            super()._brpop_start(*args, **options)  # type: ignore[misc] # celery-types does not know it

    _q_for_pri: Any = _seeing_its_steps("_q_for_pri")
    _get: Any = _seeing_its_steps("_get")
    _put: Any = _seeing_its_steps("_put")
    _size: Any = _seeing_its_steps("_size")
    _purge: Any = _seeing_its_steps("_purge")
    _delete: Any = _seeing_its_steps("_delete")
    _has_queue: Any = _seeing_its_steps("_has_queue")

    def _get_client(self) -> Any:
        client = super()._get_client()  # type: ignore[misc] # as above
        if isinstance(client, partial):
            return partial(GuardedPrefixedClient, guards=self._is_ours, **client.keywords)
        return partial(GuardedClient, guards=self._is_ours)

    def _is_ours(self, list_name: bytes | str) -> bool:
        name: str = bytes_to_str(list_name)
        return name.rsplit(self.sep, 1)[0] in self.engine_queues

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        return {**params, "connection_class": close_on_refusal(params["connection_class"])}


class ServingTransport(redis.Transport):
    """A Redis transport that drops messages of the engine's queues that kombu or Celery would fail on.

    A connection counts as established when Redis accepts writes by it. So Celery's own growing pauses lie between the
    tries, and nothing is taken from a list that cannot be accounted for.
    """

    #: Names of the engine's queues.
    engine_queues: frozenset[str] = frozenset()

    def establish_connection(self) -> Any:
        """Connect; raise an error of the connection while Redis refuses writes."""
        established: Any = super().establish_connection()
        if is_consuming_process():
            [channel] = established._avail_channels  # noqa: SLF001 - made to try the connection, kept for its first user
            try:
                check_writes(channel)
            except BaseException:
                established._avail_channels.clear()  # noqa: SLF001 - same
                channel.close()
                raise
        return established

    def _deliver(self, message: Any, queue: Any) -> None:
        problem = find_envelope_problem(message) if queue in self.engine_queues else None
        if problem is None:
            super()._deliver(message, queue)
        else:
            _drop(problem, queue, message)


class ServingRabbitChannel(pyamqp.Channel):
    """A RabbitMQ channel: that a message was held for too long is a lost connection, as it can be mended by a new one.

    RabbitMQ closes the channel of a consumer that holds a message longer than ``consumer_timeout``, half an hour unless
    told otherwise. Celery would end the worker, and with it the stage that the message had started.
    """

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        try:
            super()._on_close(reply_code, reply_text, class_id, method_id)  # type: ignore[misc] # celery-types again
        except PreconditionFailed as error:
            if (class_id, method_id) != (0, 0):  # a method of ours was wrong
                raise
            raise RecoverableConnectionError(reply_text) from error


class ServingRabbitConnection(pyamqp.Connection):
    """A connection that has such channels."""

    Channel: Any = ServingRabbitChannel


class ServingRabbitTransport(pyamqp.Transport):
    """The RabbitMQ transport with such connections."""

    Connection: Any = ServingRabbitConnection


class ServingRabbitTLSTransport(pyamqp.SSLTransport):
    """The RabbitMQ transport over TLS with such connections."""

    Connection: Any = ServingRabbitConnection


_RABBIT: Final[dict[Any, Any]] = {
    pyamqp.Transport: ServingRabbitTransport,
    pyamqp.SSLTransport: ServingRabbitTLSTransport,
}


@cache
def _serving(transport: Any, queues: frozenset[str]) -> Any:
    """Return the transport made fit for the engine's queues; one of a kind that is not known, as it is."""
    if not issubclass(transport, redis.Transport):
        return _RABBIT.get(transport, transport)
    names = {"engine_queues": queues}
    channel = type("ServingChannel", (ServingChannel, transport.Channel), names)
    return type(f"Serving{transport.__name__}", (ServingTransport, transport), {**names, "Channel": channel})


def serve_queues(connection: Connection, queues: Iterable[str]) -> Connection:
    """Make a connection that is not open yet fit for consuming the engine's queues, and return it."""
    unchecked: Any = connection
    names, find_transport = frozenset(queues), unchecked.get_transport_cls
    unchecked.get_transport_cls = lambda: _serving(find_transport(), names)  # also after a switch to another URL
    return connection
