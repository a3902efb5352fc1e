"""What the model moves: runs and stage runs, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol_play import WORKFLOWS
from protocol_world import FINAL_POLL_GRACE_MS, LEASE_MS

ACTIVE = {"PENDING", "RUNNING", "SUSPENDED"}
ENDED_WELL = {"COMPLETED", "SKIPPED"}
LIVE_RUN = {"PENDING", "RUNNING"}


@dataclass
class StageModel:
    """A stage run."""

    stage_id: str
    group: int
    generation: int
    available_at: int
    queue_timeout_at: int | None = None
    status: str = "PENDING"
    is_live: bool = True
    attempt: int = 0
    crashes: int = 0
    postponements: int = 0
    poll_crashes: int = 0
    poll_failures: int = 0
    fence: int = 0
    lease_until: int | None = None
    worker: str | None = None
    next_poll_at: int | None = None
    max_wait_until: int | None = None
    final_poll_at: int | None = None
    claimed_at: int = 0
    wakes: int = 0
    mismatch_since: int | None = None

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def failures(self) -> int:
        return self.attempt - self.crashes - self.postponements

    @property
    def is_leased(self) -> bool:
        return self.lease_until is not None

    def become(self, status: str, *, forced: bool = False) -> None:
        """Move; ``forced`` when it is not the holder of the lease who does it."""
        self.status = status
        self.lease_until = self.worker = None
        self.fence += forced
        if status not in ACTIVE:
            self.next_poll_at = None

    def lease(self, now: int, worker: str) -> None:
        self.fence += 1
        self.lease_until, self.worker, self.claimed_at = now + LEASE_MS, worker, now

    def is_due(self, now: int) -> bool:
        if self.status == "PENDING":
            return self.available_at <= now
        return self.status == "SUSPENDED" and not self.is_leased and (self.next_poll_at or 0) <= now

    def waits_too_long(self, now: int) -> bool:
        is_idle = self.status == "SUSPENDED" and self.is_live and not self.is_leased
        is_new = self.final_poll_at is None or self.final_poll_at < now - FINAL_POLL_GRACE_MS
        return is_idle and self.is_past_max_wait(now) and is_new

    def is_past_max_wait(self, now: int) -> bool:
        return self.max_wait_until is not None and self.max_wait_until < now

    def is_left_too_long(self, now: int) -> bool:
        limit = self.queue_timeout_at
        return self.status == "PENDING" and self.is_live and not self.fence and limit is not None and limit < now


@dataclass
class RunModel:
    """A run."""

    workflow_id: str
    number: int
    deadline_at: int | None
    group: int = 1
    generation: int = 0
    status: str = "PENDING"
    is_paused: bool = False
    stages: list[StageModel] = field(default_factory=list)

    @property
    def is_live(self) -> bool:
        return self.status in LIVE_RUN

    def live(self) -> list[StageModel]:
        return [stage for stage in self.stages if stage.is_live]

    def members(self) -> list[StageModel]:
        return [stage for stage in self.live() if stage.group == self.group]

    def active(self) -> list[StageModel]:
        return [stage for stage in self.live() if stage.is_active]

    def plan(self, group: int) -> list[str]:
        groups = WORKFLOWS[self.workflow_id].groups
        return [stage.id for stage in groups[group - 1].stages] if group <= len(groups) else []

    def group_of(self, stage_id: str) -> int:
        groups = WORKFLOWS[self.workflow_id].groups
        found = [group.number for group in groups for stage in group.stages if stage.id == stage_id]
        return found[0]

    def is_overdue(self, now: int) -> bool:
        return self.is_live and self.deadline_at is not None and self.deadline_at < now

    @property
    def policy(self) -> str:
        return WORKFLOWS[self.workflow_id].groups[self.group - 1].on_failure.value

    @property
    def is_draining(self) -> bool:
        return self.policy != "wait_all" and any(stage.status == "FAILED" for stage in self.members())
