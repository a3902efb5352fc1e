"""A local stand-in for a provider's batch service: jobs go in, and their results come out some time later.

It plays the part of the batch interfaces of model providers (submit, look again, fetch) without a network: a job is a
file in a folder, and its result is computed when somebody asks after its time has come. Any process may ask.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from document_analysis.analysis import Readability, measure_readability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Share of the latency that a job is queued before it is worked on.
_QUEUED_SHARE: Final = 0.4


class JobStatus(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Job:
    """What the service says about a job."""

    job_id: str
    status: JobStatus
    #: 0 to 1.
    progress: float
    result: Readability | None = None


class UnknownJobError(LookupError):
    """The service never saw a job of that id."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LocalReadabilityService:
    """Measures how hard texts are to read, some time after it was asked.

    Args:
        directory: Where jobs are kept; made when the first one is submitted.
        latency: How long a job takes.
        now: Returns the time.
    """

    def __init__(self, directory: Path, *, latency: timedelta, now: Callable[[], datetime] = _utc_now) -> None:
        self._directory = directory
        self._latency = latency
        self._now = now

    def submit(self, sentences: Sequence[str], *, idempotency_key: str) -> str:
        """Accept a job and return its id; the same key gives the same job, however often it is sent."""
        job_id = "job_" + hashlib.sha256(idempotency_key.encode()).hexdigest()[:20]
        if not self._path(job_id).exists():
            accepted_at = self._now()
            ready_at = accepted_at + self._latency
            record = {"accepted_at": accepted_at.isoformat(), "ready_at": ready_at.isoformat(), "texts": [*sentences]}
            self._write(job_id, record)
        return job_id

    def get(self, job_id: str) -> Job:
        """Return a job's status, and its result once it is done.

        Raises:
            UnknownJobError: There is no such job.
        """
        try:
            record = json.loads(self._path(job_id).read_text("ascii"))
        except FileNotFoundError:
            raise UnknownJobError(f"The readability service knows no job {job_id!r}") from None
        accepted_at, ready_at = (datetime.fromisoformat(record[key]) for key in ("accepted_at", "ready_at"))
        now = self._now()
        if now >= ready_at:
            return Job(job_id, JobStatus.DONE, 1.0, measure_readability(record["texts"]))
        progress = (now - accepted_at) / (ready_at - accepted_at)
        status = JobStatus.QUEUED if progress < _QUEUED_SHARE else JobStatus.IN_PROGRESS
        return Job(job_id, status, max(0.0, progress))

    def _path(self, job_id: str) -> Path:
        return self._directory / f"{job_id}.json"

    def _write(self, job_id: str, record: Mapping[str, object]) -> None:
        """Write a job so that a reader sees all of it or nothing."""
        self._directory.mkdir(parents=True, exist_ok=True)
        draft = self._directory / f"{job_id}.{os.getpid()}.draft"
        draft.write_text(json.dumps(record), "ascii")
        draft.replace(self._path(job_id))
