from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from document_analysis.batch_service import JobStatus, LocalReadabilityService, UnknownJobError


class SetClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.instant = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.instant

    def go_on(self, seconds: float) -> None:
        self.instant += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def service(tmp_path: Path, clock: SetClock) -> LocalReadabilityService:
    return LocalReadabilityService(tmp_path / "jobs", latency=timedelta(seconds=10), now=clock)


def test_a_job_is_queued_then_in_progress_then_done(service: LocalReadabilityService, clock: SetClock) -> None:
    job_id = service.submit(["The cat sat."], idempotency_key="a")
    seen = []

    for _ in range(3):
        seen.append(service.get(job_id).status)
        clock.go_on(5)

    assert seen == [JobStatus.QUEUED, JobStatus.IN_PROGRESS, JobStatus.DONE]


def test_a_result_comes_with_done_and_not_before(service: LocalReadabilityService, clock: SetClock) -> None:
    job_id = service.submit(["The cat sat."], idempotency_key="a")
    before = service.get(job_id)

    clock.go_on(10)
    after = service.get(job_id)

    assert before.result is None
    assert after.result is not None
    assert after.result.words_per_sentence == 3
    assert after.progress == 1


def test_the_same_key_gives_the_same_job_and_its_time_does_not_start_again(
    service: LocalReadabilityService, clock: SetClock
) -> None:
    first = service.submit(["One."], idempotency_key="a")
    clock.go_on(9)

    second = service.submit(["One."], idempotency_key="a")
    clock.go_on(1)

    assert second == first
    assert service.get(first).status is JobStatus.DONE
    assert service.submit(["One."], idempotency_key="b") != first


def test_another_process_sees_the_jobs_of_the_same_folder(
    tmp_path: Path, service: LocalReadabilityService, clock: SetClock
) -> None:
    job_id = service.submit(["One."], idempotency_key="a")

    other = LocalReadabilityService(tmp_path / "jobs", latency=timedelta(0), now=clock)

    assert other.get(job_id).status is JobStatus.QUEUED


def test_an_unknown_job_is_an_error_that_names_it(service: LocalReadabilityService) -> None:
    with pytest.raises(UnknownJobError, match="job_nothing"):
        service.get("job_nothing")
