"""A server that tests start, stop, crash and restart: what PostgreSQL, Redis and RabbitMQ have in common."""

from __future__ import annotations

import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from workflow_engine.errors import ConfigurationError, WorkflowEngineError
from workflow_engine.testing.processes import Binaries, Home, free_port

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class MissingServiceError(ConfigurationError):
    """No program of that server was found on this machine; the message says how to get one."""


class ServiceStartError(WorkflowEngineError):
    """A server was found but does not start or answer; the message ends with the end of its log."""


class Server(ABC):
    """One server process; a context manager that starts it and at the end removes all it stored.

    ``stop`` and ``restart`` keep port, password and data, so that clients can reconnect.

    Args:
        external_url: A server that somebody else runs, used as it is and never stopped.
    """

    #: What it is called in messages and directory names.
    name: str
    #: Seconds that it may take until it answers.
    start_seconds = START_SECONDS

    def __init__(self, external_url: str | None = None) -> None:
        self._external = urlsplit(external_url) if external_url else None
        self._password = secrets.token_hex(8)
        self._port = 0
        self._home: Home | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server; raises ConfigurationError if it does not run here."""
        return self._get_process().pid

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            MissingServiceError: There is no such server on this machine.
            ServiceStartError: It does not start, or does not answer in time.
        """
        if self._external is not None:
            self._ping_external()
        elif self._process is None:
            self._start()
        return self

    def stop(self) -> None:
        """End the server in good order; what it stores is kept for the next start."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Stop the server if it runs, then start it on the same port with the same data."""
        if self._process is not None:
            self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server if it runs here and remove all it stored."""
        if self._process is not None:
            self.stop()
        if self._home is not None:
            self._home.remove()
        self._home, self._port = None, 0

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def find_binaries(self) -> Binaries:
        """Return where the programs of the server are.

        Raises:
            MissingServiceError: They are not on this machine.
        """

    @abstractmethod
    def _prepare(self, home: Home, programs: Path) -> None:
        """Fill a new home."""

    @abstractmethod
    def _command(self, home: Home, port: int) -> list[str]:
        """Return the command line that serves ``home`` on ``port``."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether the server accepts connections."""

    def _start(self) -> None:
        if self._home is None:
            binaries = self.find_binaries()
            self._home = Home(self.name)
            self._prepare(self._home, self._home.adopt(binaries))
        ports = [self._port] if self._port else [free_port() for _ in range(3)]
        for self._port in ports:  # a free port may be taken by somebody else before the server binds it
            self._process = self._home.start(self._command(self._home, self._port))
            if self._wait_until_answers(self._process):
                return
            self._end(signal.SIGKILL)
        raise ServiceStartError(f"{self.name} does not start:\n{self._home.log_tail()}")

    def _wait_until_answers(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline:
            if self._answers():
                return True
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            return False
        return False

    def _ping_external(self) -> None:
        if not self._answers():
            raise ServiceStartError(f"{self.name} does not answer at the URL that the environment names")

    def _get_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ConfigurationError(f"{self.name} was not started here")
        return self._process

    def _end(self, signal_number: int) -> None:
        process = self._get_process()
        assert self._home is not None  # noqa: S101 - a process has a home
        self._home.end(process, signal_number, STOP_SECONDS)
        self._process = None
