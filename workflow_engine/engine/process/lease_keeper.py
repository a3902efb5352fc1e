"""The leases of a process: one thread renews all of them in one statement, by the database's clock."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workflow_engine.clock import to_milliseconds
from workflow_engine.store.connection.error_texts import summarize_any
from workflow_engine.store.moves.leases import renew_leases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from workflow_engine.clock import Clock
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.records import Lease

logger = logging.getLogger("workflow_engine.leases")


@dataclass(slots=True, eq=False)
class HeldLease:
    """A lease that this process holds as far as it knows."""

    lease: Lease
    #: By the clock's monotonic time: when the lease runs out unless it is renewed first.
    expires_at: float
    lost: threading.Event = field(default_factory=threading.Event)
    #: By the clock's monotonic time: when the body returned; its outcome is being written since.
    returned_at: float | None = None
    #: The body was told that its lease is lost. Its result does not count then, even if the lease turns out to be held.
    was_told: bool = False


class LeaseKeeper:
    """Renews the leases of this process three times per lease period, from the first hold to the last release.

    Short stages never cost a renewal: the first comes a third of the period after the claim. A lease that the
    database does not give back is lost: ``HeldLease.lost`` is set, the body sees ``ctx.cancelled``, and its result is
    refused by the fence. One that could not be renewed in time counts as lost until the database gives it back.

    A lease is not renewed for an execution whose body returned longer ago than the longest call of the database
    lasts: the thread that was to write its outcome may have died, although the process lives.
    """

    def __init__(self, database: Database, clock: Clock, period: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._period = period
        self._pause = period.total_seconds() / 3
        self._held: set[HeldLease] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextmanager
    def hold(self, lease: Lease, claimed_at: float) -> Iterator[HeldLease]:
        """Keep the lease alive inside the block; ``claimed_at`` is the monotonic time just before the claim."""
        held = HeldLease(lease, claimed_at + self._period.total_seconds())
        with self._changed:
            self._held.add(held)
            self._start()
            self._changed.notify()
        if self._clock.monotonic() - claimed_at > self._pause:
            self.renew()  # the claim was answered late: the lease may be about to run out, or lost already
        try:
            yield held
        finally:
            with self._changed:
                self._held.discard(held)

    def stop(self) -> None:
        """End the thread; leases still held run out by themselves."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10)

    def renew(self) -> None:
        """Renew every lease held, and mark those lost that did not come back."""
        started = self._clock.monotonic()
        with self._changed:
            held = [item for item in self._held if not self._hangs(item, started)]
        if not held:
            return
        try:
            kept = renew_leases(self._database, [item.lease for item in held], to_milliseconds(self._period))
        except Exception as error:  # noqa: BLE001 - the thread must outlive every outage
            logger.warning("could not renew %d leases: %s", len(held), summarize_any(error))
            for item in held:
                if self._clock.monotonic() >= item.expires_at:
                    item.lost.set()
            return
        for item in held:
            if item.lease in kept:
                item.expires_at = started + self._period.total_seconds()
                item.lost.clear()
            else:
                item.lost.set()

    def _hangs(self, item: HeldLease, now: float) -> bool:
        return item.returned_at is not None and now - item.returned_at > self._database.limits.call_seconds

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="workflow-leases", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._stopped)
                self._changed.wait_for(lambda: self._stopped, timeout=self._pause)
            self.renew()
