"""Questions of ``doctor`` to the broker, and to the workers that listen there."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from workflow_engine.worker.configuration_warnings import find_unsafe_content
from workflow_engine.worker.installation import get_installation
from workflow_engine.worker.wire.broker_link import BrokerLink
from workflow_engine.worker.wire.queue_contents import count_queues
from workflow_engine.worker.wire.queues import find_queue_hazards
from workflow_engine.worker.wire.supported_brokers import Broker

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from celery import Celery

_SCHEMES: Final = {
    **dict.fromkeys(("redis", "rediss"), Broker.REDIS),
    **dict.fromkeys(("amqp", "amqps", "pyamqp"), Broker.RABBITMQ),
}
_ENCRYPTED: Final = frozenset({"rediss", "amqps"})
_LOCAL: Final = frozenset({None, "", "localhost", "127.0.0.1", "::1"})


class CeleryProbe:
    """Asks the broker of an app, and its workers by remote control.

    Args:
        app: An app that the engine was installed into.
        patience: How long workers may take to answer; all that answer in time count, so this is how long it takes.
    """

    def __init__(self, app: Celery, patience: timedelta) -> None:
        self._app = app
        self._patience = patience.total_seconds()
        self._link = BrokerLink(app)

    def depths(self, queues: Collection[str]) -> dict[str, int] | None:
        """Return how many messages wait in each queue; None when the broker cannot be asked."""
        try:
            return self._link.use(lambda channel: count_queues(channel, queues))
        except Exception:  # noqa: BLE001 - whatever it is, the broker cannot be asked
            return None

    def consumers(self) -> dict[str, list[str]] | None:
        """Return the queues that each worker consumes; None when workers cannot be asked over this broker.

        Workers inside an application (``runtime.start()``) do not answer.
        """
        if not self._has_remote_control():
            return None
        answers = self._ask("active_queues")
        return {worker: [queue["name"] for queue in queues] for worker, queues in answers.items()}

    def idle_slots(self) -> int | None:
        """Return how many more tasks the workers could execute now; None when they cannot be asked."""
        if not self._has_remote_control():
            return None
        stats, active = self._ask("stats"), self._ask("active")
        slots = {worker: int(answer["pool"]["max-concurrency"]) for worker, answer in stats.items()}
        return sum(max(0, count - len(active.get(worker, ()))) for worker, count in slots.items())

    def hazards(self) -> list[str]:
        """Return what is unsafe about the app's configuration and broker."""
        priorities = find_queue_hazards(self._app, self.queues()) if self._is(Broker.RABBITMQ) else []
        return [*find_content_hazards(self._app), *find_url_hazards(self._app), *priorities]

    def queues(self) -> list[str]:
        """Return every queue of the engine."""
        return get_installation(self._app).list_queues()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _has_remote_control(self) -> bool:
        return not self._is(Broker.MEMORY)

    def _is(self, broker: Broker) -> bool:
        with self._app.connection_for_read() as connection:
            return bool(connection.transport.driver_type == broker)

    def _ask(self, question: str) -> dict[str, Any]:
        """Return what each worker answers to a question of Celery's; nothing from a broker that does not answer."""

        def ask(channel: Any) -> Any:
            inspect = self._app.control.inspect(timeout=self._patience, connection=channel.connection.client)
            return getattr(inspect, question)()

        try:
            return self._link.use(ask) or {}
        except Exception:  # noqa: BLE001 - whatever it is, no worker can be asked
            return {}


def find_content_hazards(app: Celery) -> list[str]:
    """Return the serializers that execute code when a message is read."""
    unsafe = find_unsafe_content(app)
    return [f"accept_content has {', '.join(unsafe)}: whoever can write to the broker runs code here"] if unsafe else []


def find_url_hazards(app: Celery) -> list[str]:
    """Return what is unsafe about reaching a broker on another host."""
    hazards = []
    for url in str(app.conf.broker_url or "").split(";"):
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or parts.hostname in _LOCAL:
            continue
        if _SCHEMES[parts.scheme] is Broker.REDIS and parts.password is None:
            hazards.append(f"the broker on {parts.hostname} is used without a password")
        if _SCHEMES[parts.scheme] is Broker.RABBITMQ and (parts.password or "guest") == "guest":
            hazards.append(f"the broker on {parts.hostname} is used with RabbitMQ's default password")
        is_open = parts.scheme not in _ENCRYPTED and not app.conf.broker_use_ssl
        if is_open and not _is_private(str(parts.hostname)):
            hazards.append(f"the connection to the broker on {parts.hostname} is not encrypted")
    return hazards


def _is_private(host: str) -> bool:
    """Whether the name or address is one of a private network: ``redis``, ``redis.svc.cluster.local``, ``10.0.0.7``."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".svc"))
