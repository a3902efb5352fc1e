"""What the protocol should do, in memory, by one thread, without SQL: the expectation that the engine is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol_play import (
    BACKOFF_MS,
    DEADLINE_MS,
    MAX_ATTEMPTS,
    MAX_CRASHES,
    MAX_WAIT_MS,
    POLL_INTERVAL_MS,
    QUEUE_TIMEOUT_MS,
    Script,
)
from protocol_things import ENDED_WELL, RunModel, StageModel
from protocol_world import GRACE_MS, LEASE_MS, SWEEP_INTERVAL_MS

if TYPE_CHECKING:
    from collections.abc import Sequence


class RefusedError(Exception):
    """The engine should refuse the command and change nothing."""


class Model:
    """All runs, and the rules by which they move."""

    def __init__(self) -> None:
        self.now = 0
        self.runs: dict[str, RunModel] = {}
        self.paused_workflows: set[str] = set()
        self.last_tick: int | None = None
        self.reap_after = 0

    # ------------------------------------------------------------------------------------------------- commands

    def create(self, run_id: str, workflow_id: str, number: int) -> None:
        run = self.runs[run_id] = RunModel(workflow_id, number, self._deadline_of(workflow_id))
        self._start_group(run, 1, run.plan(1))

    def fork(self, run_id: str, fork_id: str, from_stage: str) -> None:
        source = self.runs[run_id]
        group = self._group_to_rerun(source, from_stage)
        fork = self.runs[fork_id] = RunModel(source.workflow_id, source.number, self._deadline_of(source.workflow_id))
        for stage in source.live():
            if stage.group < group:
                shared = StageModel(stage.stage_id, stage.group, 0, self.now)
                shared.become(stage.status)
                fork.stages.append(shared)
        self._start_group(fork, group, fork.plan(group))

    def cancel(self, run_id: str) -> None:
        run = self.runs[run_id]
        if run.is_live:
            for stage in run.active():
                stage.become("CANCELLED", forced=True)
            run.status = "CANCELLED"

    def pause(self, run_id: str, *, is_paused: bool) -> None:
        run = self.runs[run_id]
        if not run.is_live:
            raise RefusedError
        run.is_paused = is_paused

    def rerun(self, run_id: str, from_stage: str, *, only: bool) -> None:
        run = self.runs[run_id]
        group = self._group_to_rerun(run, from_stage)
        if run.is_live:
            raise RefusedError
        kept = [
            stage.stage_id
            for stage in run.live()
            if only and stage.group == group and stage.stage_id != from_stage and stage.status in ENDED_WELL
        ]
        for stage in run.live():
            if stage.group >= group and not (stage.group == group and stage.stage_id in kept):
                stage.is_live = False
        run.generation += 1
        run.status, run.is_paused, run.deadline_at = "RUNNING", False, self._deadline_of(run.workflow_id)
        self._start_group(run, group, [stage_id for stage_id in run.plan(group) if stage_id not in kept])

    def _deadline_of(self, workflow_id: str) -> int | None:
        return self.now + DEADLINE_MS if workflow_id == "hasty" else None

    def _group_to_rerun(self, run: RunModel, from_stage: str) -> int:
        group = run.group_of(from_stage)
        well = {stage.stage_id for stage in run.live() if stage.group < group and stage.status in ENDED_WELL}
        if not {stage_id for earlier in range(1, group) for stage_id in run.plan(earlier)} <= well:
            raise RefusedError
        return group

    def wake(self, stage: StageModel) -> None:
        if not (stage.is_active and stage.is_live):
            return
        if stage.status == "SUSPENDED" and not stage.is_leased:
            stage.next_poll_at = self.now
        else:
            stage.wakes += 1

    def callback(self, run_id: str, stage_id: str, *, well: bool) -> bool:
        run = self.runs[run_id]
        stage = next((stage for stage in run.live() if stage.stage_id == stage_id), None)
        if not run.is_live or (stage is not None and not stage.is_active):
            return False
        if stage is None or stage.status == "PENDING":
            raise RefusedError
        if well:
            stage.become("COMPLETED", forced=True)
            self._settle(run)
        else:
            self._fail(run, stage, forced=True)
        return True

    # -------------------------------------------------------------------------------------- claims and outcomes

    def claim(self, run: RunModel, stage: StageModel, worker: str) -> bool:
        held = run.is_paused or run.workflow_id in self.paused_workflows
        if held or not (run.is_live and stage.is_live and stage.is_due(self.now)):
            return False
        if stage.status == "PENDING":
            stage.status = "RUNNING"
            stage.attempt += 1
            run.status = "RUNNING"
        stage.lease(self.now, worker)
        return True

    def owns(self, run: RunModel, stage: StageModel, fence: int) -> bool:
        return run.is_live and stage.is_live and stage.is_leased and stage.fence == fence

    def renew(self, stage: StageModel, fence: int) -> bool:
        """Tell whether a heartbeat still finds the lease."""
        if stage.fence != fence or not stage.is_leased:
            return False
        stage.lease_until = self.now + LEASE_MS
        return True

    def finish(self, run: RunModel, stage: StageModel, fence: int, script: Script, *, skips: bool) -> bool:
        if not self.owns(run, stage, fence):
            return False
        if script.unknown:
            self._mismatch(run, stage)
        elif stage.status == "SUSPENDED":
            self._finish_poll(run, stage, script)
        elif skips:
            stage.become("SKIPPED")
            self._settle(run)
        else:
            self._finish_body(run, stage, script)
        return True

    def _finish_body(self, run: RunModel, stage: StageModel, script: Script) -> None:
        stage.mismatch_since = None
        if script.body == "complete":
            stage.become("COMPLETED")
            self._settle(run)
        elif script.body == "suspend":
            self._suspend(run, stage)
        elif script.body == "later":
            self._retry(run, stage, script.delay_ms)
            stage.postponements += 1
        elif script.body == "break" or (failures := stage.failures) >= MAX_ATTEMPTS:
            self._fail(run, stage)
        else:
            self._retry(run, stage, BACKOFF_MS * 2 ** (failures - 1))

    def _retry(self, run: RunModel, stage: StageModel, delay_ms: int) -> None:
        if run.is_draining:
            self._fail(run, stage)
        else:
            stage.become("PENDING")
            stage.available_at = self.now + delay_ms

    def _suspend(self, run: RunModel, stage: StageModel) -> None:
        if run.is_draining:
            stage.become("CANCELLED", forced=True)
            self._settle(run)
            return
        stage.become("SUSPENDED")
        stage.max_wait_until = self.now + MAX_WAIT_MS
        self._poll_again(stage, POLL_INTERVAL_MS)

    def _finish_poll(self, run: RunModel, stage: StageModel, script: Script) -> None:
        stage.mismatch_since = None
        is_last = stage.is_past_max_wait(stage.claimed_at) and not stage.wakes
        if script.poll == "ready":
            stage.become("COMPLETED")
            self._settle(run)
        elif is_last or script.poll == "break" or (script.poll == "fail" and stage.poll_failures + 1 >= MAX_ATTEMPTS):
            self._fail(run, stage)
        else:
            backoff = BACKOFF_MS * 2**stage.poll_failures
            asked = max(script.delay_ms, 100)
            stage.become("SUSPENDED")
            self._poll_again(stage, {"unreachable": POLL_INTERVAL_MS, "fail": backoff}.get(script.poll, asked))
            stage.poll_failures = 0 if script.poll == "pending" else stage.poll_failures + (script.poll == "fail")

    def _poll_again(self, stage: StageModel, wait_ms: int) -> None:
        assert stage.max_wait_until is not None
        wait_ms = min(wait_ms, max(0, stage.max_wait_until + 1 - self.now))
        stage.next_poll_at = self.now if stage.wakes else self.now + wait_ms
        stage.final_poll_at = self.now if stage.is_past_max_wait(self.now) else None
        stage.wakes = 0

    def _mismatch(self, run: RunModel, stage: StageModel) -> None:
        since = self.now if stage.mismatch_since is None else stage.mismatch_since
        if self.now - since > GRACE_MS:
            self._fail(run, stage)
            return
        stage.mismatch_since = since
        self._give_back(run, stage, min(max((self.now - since) // 10, 200), 300_000))

    def _give_back(self, run: RunModel, stage: StageModel, delay_ms: int) -> None:
        if run.is_draining:
            stage.attempt -= stage.status == "RUNNING"
            stage.become("CANCELLED", forced=True)
            self._settle(run)
        elif stage.status == "SUSPENDED":
            stage.become("SUSPENDED", forced=True)
            stage.next_poll_at = self.now + delay_ms
        else:
            stage.attempt -= 1
            stage.become("PENDING", forced=True)
            stage.available_at = self.now + delay_ms

    # ---------------------------------------------------------------------------------------- what ends and starts

    def _start_group(self, run: RunModel, group: int, stage_ids: Sequence[str]) -> None:
        run.group = group
        for stage_id in stage_ids:
            timeout = self.now + QUEUE_TIMEOUT_MS if stage_id == "impatient" else None
            run.stages.append(StageModel(stage_id, group, run.generation, self.now, timeout))

    def _settle(self, run: RunModel) -> None:
        if not run.is_live or any(stage.is_active for stage in run.members()):
            return
        if any(stage.status == "FAILED" for stage in run.members()):
            run.status = "FAILED"
        elif following := run.plan(run.group + 1):
            self._start_group(run, run.group + 1, following)
        else:
            run.status = "COMPLETED"

    def _fail(self, run: RunModel, stage: StageModel, *, forced: bool = False) -> None:
        stage.become("FAILED", forced=forced)
        if run.policy != "wait_all":
            for sibling in run.active():
                if sibling.status != "RUNNING" or run.policy == "fail_fast":
                    sibling.become("CANCELLED", forced=True)
        self._settle(run)

    # ---------------------------------------------------------------------------------------- workers that are gone

    def release(self, run: RunModel, stage: StageModel, fence: int) -> bool:
        if stage.fence != fence:
            return False
        self._give_back(run, stage, 0)
        return True

    def reap(self, run: RunModel, stage: StageModel, fence: int, *, must_be_expired: bool) -> bool:
        if stage.fence != fence or stage.lease_until is None:
            return False
        if must_be_expired and stage.lease_until >= self.now:
            return False
        if stage.status == "SUSPENDED":
            stage.poll_crashes += 1
            if stage.poll_crashes >= MAX_CRASHES:
                self._fail(run, stage, forced=True)
            else:
                stage.become("SUSPENDED", forced=True)
                stage.next_poll_at = self.now
                stage.final_poll_at = self.now if stage.is_past_max_wait(self.now) else None
            return True
        stage.crashes += 1
        if stage.crashes >= MAX_CRASHES:
            self._fail(run, stage, forced=True)
        elif run.is_draining:
            stage.become("CANCELLED", forced=True)
            self._settle(run)
        else:
            stage.become("PENDING", forced=True)
            stage.available_at = self.now + LEASE_MS * (stage.crashes - 1)
        return True

    # ------------------------------------------------------------------------------------------------- the sweep

    def tick(self) -> bool:
        """Tell whether an unforced sweep goes on."""
        if self.last_tick is None:
            self.last_tick = self.now
            return True
        gap = self.now - self.last_tick
        if gap < SWEEP_INTERVAL_MS // 2:
            return False
        if gap > 3 * SWEEP_INTERVAL_MS and self.last_tick >= self.reap_after:
            self.reap_after = self.now + LEASE_MS
        self.last_tick = self.now
        return True

    def may_end_things(self) -> bool:
        return self.now >= self.reap_after

    def expire_suspension(self, run: RunModel, stage: StageModel) -> None:
        if not stage.waits_too_long(self.now):
            return
        if stage.final_poll_at is None:
            stage.final_poll_at = stage.next_poll_at = self.now
        else:
            self._fail(run, stage, forced=True)

    def expire_queued(self, run: RunModel, stage: StageModel) -> None:
        if stage.is_left_too_long(self.now):
            self._fail(run, stage, forced=True)

    def expire_run(self, run: RunModel) -> None:
        if run.is_overdue(self.now):
            for stage in run.active():
                stage.become("CANCELLED", forced=True)
            run.status = "FAILED"
