"""kombu's transports, made to survive entries that no Celery client wrote, and to wait without polling in memory."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from amqp.exceptions import PreconditionFailed, RecoverableConnectionError
from kombu import Connection
from kombu.transport import memory, pyamqp, redis, virtual
from kombu.utils.imports import symbol_by_name
from redis import Redis

from workflow_engine.worker.envelopes import find_entry_problem, find_envelope_problem
from workflow_engine.worker.memory import MemoryTransport
from workflow_engine.worker.refusals import are_expected, check_writes, expecting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

logger = logging.getLogger("workflow_engine.broker")

#: How much of a dropped entry is shown in the log.
SHOWN: Final = 200


def _drop(problem: str, where: object, entry: object) -> None:
    logger.error("dropped a malformed message from %s: %s: %.*r", where, problem, SHOWN, entry)


class GuardedReplies:
    """Mixed into the Redis client: what a list gives up that is no JSON object counts as nothing received."""

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """Parse the answer to a command; drop malformed entries of BRPOP and RPOP."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[misc]
        if not answer or command_name not in ("BRPOP", "RPOP"):
            return answer
        source, entry = answer if command_name == "BRPOP" else ("a list", answer)
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


class GuardedClients:
    """Mixed into a Redis channel: its clients have the guard."""

    QoS: Any = GuardedQoS

    def _get_client(self) -> Any:
        client = super()._get_client()  # type: ignore[misc]
        if isinstance(client, partial):
            return partial(GuardedPrefixedClient, **client.keywords)
        return GuardedClient

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        return {**params, "connection_class": expecting(params["connection_class"])}


class UsableConnections:
    """Mixed into a Redis transport: in a worker, a connection counts as established when Redis accepts writes by it.

    So Celery's own growing pauses lie between the tries, and nothing is taken from a list that cannot be accounted for.
    """

    def establish_connection(self) -> Any:
        """Connect; raise an error of the connection while Redis refuses writes."""
        established = super().establish_connection()  # type: ignore[misc]
        if are_expected():
            [channel] = established._avail_channels  # noqa: SLF001 - made to try the connection, kept for its first user
            try:
                check_writes(channel)
            except BaseException:
                established._avail_channels.clear()  # noqa: SLF001 - same
                channel.close()
                raise
        return established


class GuardedDelivery:
    """Mixed into a transport: a message that kombu or Celery would fail on is dropped before they see it."""

    def _deliver(self, message: Any, queue: Any) -> None:
        problem = find_envelope_problem(message)
        if problem is None:
            super()._deliver(message, queue)  # type: ignore[misc]
        else:
            _drop(problem, queue, message)


class GuardedChannel(GuardedClients, redis.Channel):
    """A Redis channel with the guard."""


class GuardedTransport(GuardedDelivery, UsableConnections, redis.Transport):
    """The Redis transport with the guard."""

    Channel: type[redis.Channel] = GuardedChannel


class GuardedSentinelChannel(GuardedClients, redis.SentinelChannel):
    """A Redis Sentinel channel with the guard."""


class GuardedSentinelTransport(GuardedDelivery, UsableConnections, redis.SentinelTransport):
    """The Redis Sentinel transport with the guard."""

    Channel: type[redis.SentinelChannel] = GuardedSentinelChannel


class GuardedRabbitChannel(pyamqp.Channel):
    """A RabbitMQ channel: that a message was held for too long is a lost connection, as it can be mended by a new one.

    RabbitMQ closes the channel of a consumer that holds a message longer than ``consumer_timeout``, half an hour unless
    told otherwise. Celery would end the worker, and with it the stage that the message had started.
    """

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        try:
            super()._on_close(reply_code, reply_text, class_id, method_id)  # type: ignore[misc]
        except PreconditionFailed as error:
            if (class_id, method_id) != (0, 0):  # a method of ours was wrong
                raise
            raise RecoverableConnectionError(reply_text) from error


class GuardedRabbitConnection(pyamqp.Connection):
    """A connection that has such channels."""

    Channel: Any = GuardedRabbitChannel


class GuardedRabbitTransport(pyamqp.Transport):
    """The RabbitMQ transport with such connections."""

    Connection: Any = GuardedRabbitConnection


class GuardedRabbitTLSTransport(pyamqp.SSLTransport):
    """The RabbitMQ transport over TLS with such connections."""

    Connection: Any = GuardedRabbitConnection


#: What takes the place of what; other transports are used as they are.
REPLACEMENTS: Final[dict[type[Any], type[Any]]] = {
    redis.Transport: GuardedTransport,
    redis.SentinelTransport: GuardedSentinelTransport,
    memory.Transport: MemoryTransport,
    pyamqp.Transport: GuardedRabbitTransport,
    pyamqp.SSLTransport: GuardedRabbitTLSTransport,
}


class GuardedConnection(Connection):
    """A kombu connection that uses the replacements; its URL and options mean what they always mean."""

    def get_transport_cls(self) -> type[Any]:
        """Return the transport class for the URL, or what takes its place."""
        transport = super().get_transport_cls()
        return REPLACEMENTS.get(transport, transport)


def guard_connections(app: Celery) -> None:
    """Make every broker connection of the app, and of no other app, a guarded one."""
    base = symbol_by_name(app.amqp_cls or "celery.app.amqp:AMQP")
    guarded: Any = type(
        "GuardedAMQP", (base,), {"Connection": GuardedConnection, "BrokerConnection": GuardedConnection}
    )
    app.amqp_cls = guarded
    if "amqp" in vars(app):  # somebody asked for it before the engine was installed
        app.amqp.Connection = GuardedConnection
