"""What can be done to the engine, each step with what the model expects of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from protocol_model import RefusedError
from protocol_play import EMPTY_REGISTRY, GOOD, PLAY, WORKFLOWS, Script, fault_free, output_of
from protocol_records import Records
from protocol_world import LEASE_MS, Execution, WorkerDiedError

from workflow_engine import engine as commands
from workflow_engine.engine.execution.context_services import ContextServices
from workflow_engine.engine.execution.perform import perform
from workflow_engine.engine.execution.run_on_cancel import run_cleanup
from workflow_engine.engine.process.lease_keeper import HeldLease
from workflow_engine.engine.transitions.finish import finish
from workflow_engine.errors import ConflictError, NotFoundError
from workflow_engine.store.moves.claims import claim
from workflow_engine.store.moves.leases import leases_of, renew_leases
from workflow_engine.store.records import ClaimRequest, Lease
from workflow_engine.store.schema.tables import runs, stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol_things import StageModel

    from workflow_engine.store.records import Hint

DATABASE_ACCIDENTS = ("answer lost", "rolled back", "died")
#: How time passes once the accidents have ended; slower than beat does, so that habitually late sweeps are met too.
CALM_MS = (21_000, 35_000, 35_000, 61_000, 301_000)
CALM_ROUNDS = 40
#: Of one round; far more than the runs of an example need.
MOST_MESSAGES = 300


class Steps(Records):
    """Everything that can happen."""

    def create(self, workflow_id: str, number: int, key: str | None, accident: str | None) -> None:
        request = commands.CreateRun(
            workflow_id, number, metadata={"number": number}, idempotency_key=key and f"{key}:{workflow_id}:{number}"
        )
        created = self._command(lambda: commands.create_run(self.world.engine, request), accident)
        run_id = created.run_id if created is not None else self._only_new_run()
        if run_id is None or run_id in self.model.runs:
            assert key is not None
            return
        self.model.create(run_id, workflow_id, number)

    def fork(self, pick: int, stage: int, accident: str | None) -> None:
        source = self._run_id(pick)
        from_stage = self._stage_id(source, stage)
        fork_id = "0" * 36
        refused = self._refuses(lambda: self.model.fork(source, fork_id, from_stage))
        created = self._command(
            lambda: commands.fork_run(self.world.engine, source, from_stage=from_stage), accident, refused=refused
        )
        if not refused:
            run_id = created.run_id if created is not None else self._only_new_run()
            self.model.runs[run_id] = self.model.runs.pop(fork_id)

    def cancel(self, pick: int, accident: str | None) -> None:
        run_id = self._run_id(pick)
        self._command(lambda: commands.cancel_run(self.world.engine, run_id), accident)
        self.model.cancel(run_id)

    def pause(self, pick: int) -> None:
        run_id = self._run_id(pick)
        refused = self._refuses(lambda: self.model.pause(run_id, is_paused=True))
        self._command(lambda: commands.pause_run(self.world.engine, run_id), refused=refused)

    def resume(self, pick: int, accident: str | None) -> None:
        paused = sorted(run_id for run_id, run in self.model.runs.items() if run.is_paused)
        run_id = paused[pick % len(paused)]
        run = self.model.runs[run_id]
        refused = self._refuses(lambda: self.model.pause(run_id, is_paused=False))
        self._command(lambda: commands.resume_run(self.world.engine, run_id), accident, refused=refused)
        if accident is None and not refused:
            self._check_that_due_work_has_messages(run)

    def pause_or_resume_workflow(self, workflow_id: str) -> None:
        if workflow_id not in self.model.paused_workflows:
            self._command(lambda: commands.pause_workflow(self.world.engine, workflow_id))
            self.model.paused_workflows.add(workflow_id)
            return
        self._command(lambda: commands.resume_workflow(self.world.engine, workflow_id))
        self.model.paused_workflows.discard(workflow_id)
        for run in self.model.runs.values():
            if run.workflow_id == workflow_id and not run.is_paused:
                self._check_that_due_work_has_messages(run)

    def rerun(self, pick: int, stage: int, *, only: bool, accident: str | None) -> None:
        run_id = self._run_id(pick)
        from_stage = self._stage_id(run_id, stage)
        refused = self._refuses(lambda: self.model.rerun(run_id, from_stage, only=only))
        self._command(
            lambda: commands.rerun_run(self.world.engine, run_id, from_stage=from_stage, only=only),
            accident,
            refused=refused,
        )

    def wake(self, pick: int, accident: str | None) -> None:
        stage_run_id = self._stage_run_id(pick)
        self._command(lambda: commands.with_stage_run(self.world.engine, stage_run_id, commands.wake), accident)
        self.model.wake(self.stage_runs[stage_run_id][1])

    def callback(self, pick: int, *, well: bool, accident: str | None) -> None:
        run, stage = self.stage_runs[self._stage_run_id(pick)]
        run_id = next(id_ for id_, known in self.model.runs.items() if known is run)
        value = fault_free(run.workflow_id, {"number": run.number}).inputs[stage.stage_id]
        key = commands.StageKey(run_id, stage.stage_id)
        answers: list[bool] = []
        refused = self._refuses(lambda: answers.append(self.model.callback(run_id, stage.stage_id, well=well)))
        engine, output = self.world.engine, output_of(stage.stage_id, value)
        told = self._command(
            lambda: commands.complete_stage(engine, key, output) if well else commands.fail_stage(engine, key, "no"),
            accident,
            refused=refused,
        )
        assert refused or told in (None, answers[0])

    # ------------------------------------------------------------------------------------------------- workers

    def take(self, pick: int, worker: str, accident: str | None) -> Execution | None:
        """Deliver a message of something that is due, if it was ever sent; else any message."""
        broker = self.world.broker
        due = [hint for hint in broker.ever if self._is_due(hint)]
        known = due or broker.ever
        hint = known[pick % len(known)]
        if hint in broker.messages:
            broker.messages.remove(hint)
        return self._claim(hint, worker, accident)

    def take_and_finish(self, pick: int, worker: str, script: Script, accident: str | None) -> None:
        execution = self.take(pick, worker, None)
        if execution is not None:
            self.finish_execution(execution, script, accident)

    def take_anything(self, pick: int, worker: str) -> None:
        """Deliver a message of late, whatever it is about."""
        self._claim(self.world.broker.ever[-1 - pick % len(self.world.broker.ever)], worker, None)

    def finish(self, pick: int, script: Script, accident: str | None) -> None:
        self.finish_execution(self.world.executions[pick % len(self.world.executions)], script, accident)

    def renew(self, worker: str) -> None:
        held = [execution.claim.lease for execution in self.world.executions if execution.worker == worker]
        kept = renew_leases(self.database, held, LEASE_MS) if held else set()
        expected = {lease for lease in held if self.model.renew(self.stage_runs[lease.stage_run_id][1], lease.fence)}
        assert kept == expected

    def stop_a_worker(self, worker: str, *, is_dead: bool) -> None:
        found = self._open_leases(worker)
        end = commands.reap_worker if is_dead else commands.release_worker
        given_back = self._command(lambda: end(self.world.engine, worker))
        for stage_run_id, fence in found:
            run, stage = self.stage_runs[stage_run_id]
            if is_dead:
                given_back -= self.model.reap(run, stage, fence, must_be_expired=False)
            else:
                given_back -= self.model.release(run, stage, fence)
        assert given_back == 0

    # -------------------------------------------------------------------------------- time, sweeps and accidents

    def pass_time(self, pause_ms: int) -> None:
        self.database.set_time(self.database.present + pause_ms)
        self.model.now = self.database.present

    def wait_for_what_is_next(self) -> None:
        instants = [
            instant
            for _, stage in self.stage_runs.values()
            if stage.is_live and stage.is_active
            for instant in (stage.available_at, stage.next_poll_at)
            if instant is not None and instant > self.model.now
        ]
        if instants:
            self.pass_time(min(instants) - self.model.now)

    def sweep(self, pause_ms: int, *, force: bool, accident: str | None) -> None:
        self.pass_time(pause_ms)
        self._sweep(force=force or self.world.stale is not None, accident=accident)

    def begin_another_sweep(self, pause_ms: int) -> None:
        """Read what the next sweep acts on, which comes when other things have happened."""
        self.pass_time(pause_ms)
        self.world.stale = self.world.read_stale()

    def disturb_the_broker(self, pick: int, *, loses: bool) -> None:
        messages = self.world.broker.messages
        if messages and loses:
            messages.pop(pick % len(messages))
        elif messages:
            messages.append(messages[pick % len(messages)])

    # ------------------------------------------------------------------------------------------------- doing it

    def _command(self, command: Callable[[], Any], accident: str | None = None, *, refused: bool = False) -> Any:
        """Call the engine, with an accident to its first transaction; None when the process died after its commit."""
        self.is_sound = False
        self.world.broker.is_down = accident == "broker down"
        self.database.accidents = [accident] if accident in DATABASE_ACCIDENTS else []
        try:
            result = command()
        except WorkerDiedError:
            assert not refused
            result = None
        except (ConflictError, NotFoundError):
            assert refused
            result = None
        else:
            assert not refused
        self.database.accidents.clear()
        self.world.broker.is_down = False
        self.is_sound = True
        return result

    def _refuses(self, expectation: Callable[[], Any]) -> bool:
        try:
            expectation()
        except RefusedError:
            return True
        return False

    def _is_due(self, hint: Hint) -> bool:
        found = self.stage_runs.get(hint.stage_run_id)
        return found is not None and found[1].is_live and found[1].is_due(self.model.now)

    def _run_id(self, pick: int) -> str:
        return sorted(self.model.runs)[pick % len(self.model.runs)]

    def _only_new_run(self) -> str | None:
        found = set(self.database.read(lambda tx: tx.scalars(sa.select(runs.c.id)).all())) - set(self.model.runs)
        return found.pop() if found else None

    def _stage_id(self, run_id: str, pick: int) -> str:
        known = sorted(WORKFLOWS[self.model.runs[run_id].workflow_id].stages)
        return known[pick % len(known)]

    def _stage_run_id(self, pick: int) -> str:
        """Return an active stage run if there is one."""
        active = [id_ for id_, (_, stage) in self.stage_runs.items() if stage.is_active]
        known = sorted(active or self.stage_runs)
        return known[pick % len(known)]

    def _open_leases(self, worker: str) -> list[tuple[str, int]]:
        found = self.database.read(lambda tx: leases_of(tx, worker))
        expected = {(id_, stage.fence) for id_, (_, stage) in self.stage_runs.items() if stage.worker == worker}
        assert {(lease.stage_run_id, lease.fence) for lease in found} == expected
        return [(lease.stage_run_id, lease.fence) for lease in found]

    def _claim(self, hint: Hint, worker: str, accident: str | None) -> Execution | None:
        assert hint.stage_run_id in self.stage_runs, "a message for a stage run that should not exist"
        run, stage = self.stage_runs[hint.stage_run_id]
        self.nonces += 1
        request = ClaimRequest(hint.stage_run_id, hint.dispatch_number, f"nonce-{self.nonces}", worker, LEASE_MS)
        taken = self._command(lambda: claim(self.database, request), accident)
        expected = self.model.claim(run, stage, worker)
        assert (taken is not None) == (expected and accident != "died")
        if taken is None:
            self._command(lambda: run_cleanup(self.world.engine, hint.stage_run_id))
            return None
        assert (taken.attempt, taken.fence) == (stage.attempt, stage.fence)
        self.world.executions.append(Execution(taken, worker))
        return self.world.executions[-1]

    def finish_execution(self, execution: Execution, script: Script, accident: str | None) -> None:
        self.world.executions.remove(execution)
        taken = execution.claim
        run, stage = self.stage_runs[taken.stage_run_id]
        engine = self.world.engine
        if script.unknown:
            engine = commands.Engine.build(
                settings=engine.settings, registry=EMPTY_REGISTRY, dispatcher=engine.dispatcher,
                database=self.database, clock=engine.clock,
            )  # fmt: skip
        PLAY.script = script
        held = HeldLease(taken.lease, expires_at=0.0)
        services = ContextServices(engine, taken, held)
        outcome = perform(engine, taken, services, held)
        accepted = self._command(lambda: finish(engine, taken, outcome, services.buffer.take()), accident)
        skips = stage.stage_id == "skippable" and run.number % 2 == 1
        expected = self.model.finish(run, stage, taken.fence, script, skips=skips)
        # A claim given back for want of a definition looks afterwards as if somebody else had released it.
        assert accepted in (None, expected) or script.unknown

    def _sweep(self, *, force: bool, accident: str | None) -> None:
        self.world.found.clear()
        goes_on = force or self.model.tick()
        may_end_things = force or self.model.may_end_things()
        report = self._command(lambda: commands.sweep(self.world.engine, force=force), accident)
        assert report.errors == {}
        if force or accident != "answer lost":
            assert report.skipped is not goes_on
        if (
            not report.skipped and may_end_things
        ):  # one whose tick was taken, but not answered, leaves the work to the next
            self._expect_sweep()
        assert may_end_things or self.world.found == {}
        self.world.stale = None

    def _expect_sweep(self) -> None:
        found, model, now = self.world.found, self.model, self.model.now
        is_fresh = self.world.stale is None
        leases: list[Lease] = found.get("leases", [])
        if is_fresh:
            assert {lease.stage_run_id for lease in leases} == self._ids(lambda stage: (stage.lease_until or now) < now)
        for lease in leases:
            model.reap(*self.stage_runs[lease.stage_run_id], lease.fence, must_be_expired=True)
        assert not is_fresh or set(found["suspensions"]) == self._ids(lambda stage: stage.waits_too_long(now))
        for stage_run_id in found["suspensions"]:
            model.expire_suspension(*self.stage_runs[stage_run_id])
        assert not is_fresh or set(found["queued"]) == self._ids(lambda stage: stage.is_left_too_long(now))
        for stage_run_id in found["queued"]:
            model.expire_queued(*self.stage_runs[stage_run_id])
        assert not is_fresh or set(found["runs"]) == {id_ for id_, run in model.runs.items() if run.is_overdue(now)}
        for run_id in found["runs"]:
            model.expire_run(model.runs[run_id])

    def _ids(self, is_wanted: Callable[[StageModel], bool]) -> set[str]:
        return {stage_run_id for stage_run_id, (_, stage) in self.stage_runs.items() if is_wanted(stage)}

    # ------------------------------------------------------------------------------------------------- the end

    def come_to_rest(self) -> None:
        """End the accidents, let time and sweeps go on, and see every run end as it would have without them."""
        self.world.stale = None
        PLAY.script = GOOD
        assert self._drive() == []
        for run_id, run in self.model.runs.items():
            if run.is_paused:
                self._resume_if_live(run_id)
        for workflow_id in self.model.paused_workflows:
            commands.resume_workflow(self.world.engine, workflow_id)
        self.model.paused_workflows = set()
        assert self._drive() == []
        assert self.world.violations(final=True) == {}
        self._check_outputs()
        assert PLAY.surprises == []
        assert len(PLAY.calls) == len(set(PLAY.calls))

    def _resume_if_live(self, run_id: str) -> None:
        self.model.runs[run_id].is_paused = False
        try:
            commands.resume_run(self.world.engine, run_id)
        except ConflictError:
            return

    def _drive(self) -> list[str]:
        """Return the runs that have not ended although nothing holds them."""
        for pause_ms in (CALM_MS * CALM_ROUNDS)[:CALM_ROUNDS]:
            assert commands.sweep(self.world.engine).errors == {}
            self._deliver()
            if not self._unended():
                break
            self.database.set_time(self.database.present + pause_ms)
        return self._unended()

    def _deliver(self) -> None:
        for _ in range(MOST_MESSAGES):
            if not self.world.broker.messages:
                return
            hint = self.world.broker.take(0)
            commands.execute_stage(self.world.engine, hint.stage_run_id, hint.dispatch_number)
        raise AssertionError("messages beget messages for ever")

    def _unended(self) -> list[str]:
        live = self.database.read(
            lambda tx: tx.scalars(sa.select(runs.c.id).where(runs.c.status.in_(["PENDING", "RUNNING"]))).all()
        )
        free = {
            run_id
            for run_id, run in self.model.runs.items()
            if not run.is_paused and run.workflow_id not in self.model.paused_workflows
        }
        owed = self.database.read(
            lambda tx: tx.scalars(sa.select(stages.c.run_id).where(stages.c.cleanup_due_at.is_not(None))).all()
        )
        return sorted(free & {*live, *owed})

    def _check_outputs(self) -> None:
        for run_id, run in self.model.runs.items():
            result = self.database.read(lambda tx, run_id=run_id: commands.read_run_result(tx, run_id))
            if result.status == "COMPLETED":
                assert result.output() == fault_free(run.workflow_id, {"number": run.number}).output
