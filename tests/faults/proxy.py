"""A TCP proxy that can forget: established connections are neither answered nor closed any more, new ones work.

That is what a firewall does that lost its table, or a load balancer after a failover. ``python -m tests.faults.proxy
TARGET_PORT LISTEN_PORT`` forwards on 127.0.0.1; SIGUSR1 makes it forget.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from contextlib import suppress

#: Printed once connections are accepted.
READY = "accepting"


class Proxy:
    """Forwards connections of the present epoch; what belongs to an earlier epoch is read and dropped."""

    def __init__(self, target_port: int, listen_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", listen_port), backlog=200)
        self._epoch = 0

    def forget(self, *_: object) -> None:
        """Stop answering on every connection that exists now."""
        self._epoch += 1

    def serve(self) -> None:
        """Accept connections until the process ends."""
        while True:
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(*pair, self._epoch), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, epoch: int) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if epoch == self._epoch:
                    sink.sendall(data)
        if epoch == self._epoch:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                source.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """Serve until killed."""
    proxy = Proxy(int(sys.argv[1]), int(sys.argv[2]))
    signal.signal(signal.SIGUSR1, proxy.forget)
    threading.Thread(target=proxy.serve, daemon=True).start()
    print(READY, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
