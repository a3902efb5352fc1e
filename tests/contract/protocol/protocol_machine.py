"""The machine: random commands, accidents and interleavings against the real engine, with the model beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from protocol_model import Model, RefusedError, RunModel, StageModel
from protocol_play import EMPTY_REGISTRY, GOOD, PLAY, WORKFLOWS, Script, fault_free, output_of
from protocol_world import LEASE_MS, Execution, WorkerDiedError, World

from workflow_engine import engine as commands
from workflow_engine.engine.cleanup import run_cleanup
from workflow_engine.engine.effects import Effects
from workflow_engine.engine.execute_stage import _perform
from workflow_engine.engine.finish import finish
from workflow_engine.engine.leases import HeldLease
from workflow_engine.errors import ConflictError, NotFoundError
from workflow_engine.store.claims import claim
from workflow_engine.store.leases import renew_leases
from workflow_engine.store.records import ClaimRequest, Lease
from workflow_engine.store.tables import runs, stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol_world import FaultyDatabase

    from workflow_engine.store.records import Hint

#: Which one of what there is: taken modulo their number.
PICK = st.integers(0, 7)
WORKERS = st.sampled_from(["host:1:a", "host:2:b"])
SCRIPTS = st.sampled_from(
    [
        GOOD,
        GOOD,
        GOOD,
        Script("suspend", "pending", 9_000),
        Script("suspend", "pending", 9_000),
        Script("suspend", "ready"),
        Script("suspend", "unreachable"),
        Script("retry", "later", 700),
        Script("later", "pending", 0),
        Script("break", "break"),
        Script("break", "ready"),
        Script(unknown=True),
    ]
)
ACCIDENTS = st.sampled_from([None, None, None, "answer lost", "rolled back", "died"])
PAUSES_MS = st.sampled_from(
    [0, 250, 2_000, 5_100, 11_000, LEASE_MS + 1_000, LEASE_MS + 1_000, 70_000, 130_000, 410_000]
)
#: How time passes once the accidents have ended; slower than beat does, so that habitually late sweeps are met too.
CALM_MS = (21_000, 35_000, 35_000, 61_000, 301_000)
CALM_ROUNDS = 40
MOST_RUNS = 3
#: Of one round; far more than the runs of an example need.
MOST_MESSAGES = 300

_RUN_COLUMNS = (runs.c.id, runs.c.status, runs.c.generation, runs.c.current_group, runs.c.paused_at)
_STAGE_COLUMNS = (
    "id", "run_id", "stage_id", "generation", "status", "superseded_by", "attempt", "crashes", "poll_crashes", "fence",
    "lease_until", "next_poll_at", "available_at", "dispatch_number",
)  # fmt: skip
_STAGE_ROWS = sa.select(*(stages.c[name] for name in _STAGE_COLUMNS))


class ProtocolMachine(RuleBasedStateMachine):
    """Bound to a database by ``machine_on``."""

    database: ClassVar[FaultyDatabase]
    #: Whether each example ends with the accidents over and every run ended; it costs about half of the time.
    comes_to_rest: ClassVar[bool] = True
    #: Examples begun since it was set to 0.
    examples: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.world = World(self.database)
        self.world.open()
        self.model = Model()
        self.model.now = self.database.present
        self.stage_runs: dict[str, tuple[RunModel, StageModel]] = {}
        self.dispatched: dict[str, int] = {}
        self.nonces = 0
        #: False from the moment that a check fails, so that the end is not checked on top.
        self.is_sound = True

    def teardown(self) -> None:
        try:
            if self.is_sound and self.comes_to_rest:
                self._come_to_rest()
        finally:
            self.world.close()

    # ------------------------------------------------------------------------------------------------- commands

    @initialize(
        workflow_id=st.sampled_from(sorted(WORKFLOWS)),
        number=st.integers(0, 1),
        past=st.lists(SCRIPTS, max_size=3),
        taken=st.integers(0, 2),
    )
    def begin(self, workflow_id: str, number: int, past: list[Script], taken: int) -> None:
        """Start in the middle of a run: some stages have had an attempt, others are being executed or polled."""
        self.create(workflow_id, number, key=None, accident=None)
        for script in past:
            self._rows()
            if self.world.broker.messages:
                self.take_and_finish(0, "host:1:a", script, accident=None)
        if past and taken:
            self._rows()
            self.sweep(11_000, force=True, accident=None)
        for _ in range(taken):
            self._rows()
            if self.world.broker.messages:
                self.take(0, "host:1:a", accident=None)

    @precondition(lambda self: len(self.model.runs) < MOST_RUNS)
    @rule(
        workflow_id=st.sampled_from(sorted(WORKFLOWS)),
        number=st.integers(0, 1),
        key=st.sampled_from([None, "key"]),
        accident=ACCIDENTS,
    )
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

    @precondition(lambda self: len(self.model.runs) < MOST_RUNS)
    @rule(pick=PICK, stage=PICK, accident=ACCIDENTS)
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

    @rule(pick=PICK, accident=ACCIDENTS)
    def cancel(self, pick: int, accident: str | None) -> None:
        run_id = self._run_id(pick)
        self._command(lambda: commands.cancel_run(self.world.engine, run_id), accident)
        self.model.cancel(run_id)

    @rule(pick=PICK)
    def pause(self, pick: int) -> None:
        run_id = self._run_id(pick)
        refused = self._refuses(lambda: self.model.pause(run_id, is_paused=True))
        self._command(lambda: commands.pause_run(self.world.engine, run_id), refused=refused)

    @precondition(lambda self: any(run.is_paused for run in self.model.runs.values()))
    @rule(pick=PICK, accident=ACCIDENTS)
    def resume(self, pick: int, accident: str | None) -> None:
        run_id = self._run_id(pick)
        run = self.model.runs[run_id]
        was_paused = run.is_paused
        refused = self._refuses(lambda: self.model.pause(run_id, is_paused=False))
        self._command(lambda: commands.resume_run(self.world.engine, run_id), accident, refused=refused)
        if was_paused and accident is None and not refused:
            self._check_that_due_work_has_messages(run)

    @rule(workflow_id=st.sampled_from(sorted(WORKFLOWS)))
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

    @precondition(lambda self: not all(run.is_live for run in self.model.runs.values()))
    @rule(pick=PICK, stage=PICK, only=st.booleans(), accident=ACCIDENTS)
    def rerun(self, pick: int, stage: int, *, only: bool, accident: str | None) -> None:
        run_id = self._run_id(pick)
        from_stage = self._stage_id(run_id, stage)
        refused = self._refuses(lambda: self.model.rerun(run_id, from_stage, only=only))
        self._command(
            lambda: commands.rerun_run(self.world.engine, run_id, from_stage=from_stage, only=only),
            accident,
            refused=refused,
        )

    @rule(pick=PICK, accident=ACCIDENTS)
    def wake(self, pick: int, accident: str | None) -> None:
        stage_run_id = self._stage_run_id(pick)
        self._command(lambda: commands.with_stage_run(self.world.engine, stage_run_id, commands.wake), accident)
        self.model.wake(self.stage_runs[stage_run_id][1])

    @rule(pick=PICK, well=st.booleans(), accident=ACCIDENTS)
    def push(self, pick: int, *, well: bool, accident: str | None) -> None:
        run, stage = self.stage_runs[self._stage_run_id(pick)]
        run_id = next(id_ for id_, known in self.model.runs.items() if known is run)
        value = fault_free(run.workflow_id, {"number": run.number}).inputs[stage.stage_id]
        key = commands.StageKey(run_id, stage.stage_id)
        answers: list[bool] = []
        refused = self._refuses(lambda: answers.append(self.model.push(run_id, stage.stage_id, well=well)))
        engine, output = self.world.engine, output_of(stage.stage_id, value)
        told = self._command(
            lambda: commands.complete_stage(engine, key, output) if well else commands.fail_stage(engine, key, "no"),
            accident,
            refused=refused,
        )
        assert refused or told in (None, answers[0])

    # ------------------------------------------------------------------------------------------------- workers

    @precondition(lambda self: self.world.broker.messages)
    @rule(pick=PICK, worker=WORKERS, accident=ACCIDENTS)
    def take(self, pick: int, worker: str, accident: str | None) -> None:
        self._claim(self.world.broker.take(pick), worker, accident)

    @precondition(lambda self: self.world.broker.messages)
    @rule(pick=PICK, worker=WORKERS, script=SCRIPTS, accident=ACCIDENTS)
    def take_and_finish(self, pick: int, worker: str, script: Script, accident: str | None) -> None:
        execution = self._claim(self.world.broker.take(pick), worker, None)
        if execution is not None:
            self._finish(execution, script, accident)

    @precondition(lambda self: self.world.broker.ever)
    @rule(pick=PICK, worker=WORKERS)
    def take_a_message_that_came_back(self, pick: int, worker: str) -> None:
        self._claim(self.world.broker.ever[-1 - pick % len(self.world.broker.ever)], worker, None)

    @precondition(lambda self: self.world.executions)
    @rule(pick=PICK, script=SCRIPTS, accident=ACCIDENTS)
    def finish(self, pick: int, script: Script, accident: str | None) -> None:
        self._finish(self.world.executions[pick % len(self.world.executions)], script, accident)

    # Workers do most of what happens.
    take_more = take
    finish_more = finish

    @precondition(lambda self: self.world.executions)
    @rule(worker=WORKERS)
    def renew(self, worker: str) -> None:
        held = [execution.claim.lease for execution in self.world.executions if execution.worker == worker]
        kept = renew_leases(self.database, held, LEASE_MS) if held else set()
        expected = {lease for lease in held if self.model.renew(self.stage_runs[lease.stage_run_id][1], lease.fence)}
        assert kept == expected

    @precondition(lambda self: self.world.executions)
    @rule(worker=WORKERS, is_dead=st.booleans())
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

    @rule(pause_ms=PAUSES_MS)
    def pass_time(self, pause_ms: int) -> None:
        self.database.set_time(self.database.present + pause_ms)
        self.model.now = self.database.present

    @rule(pause_ms=PAUSES_MS, force=st.booleans(), accident=st.sampled_from([None, "answer lost", "rolled back"]))
    def sweep(self, pause_ms: int, *, force: bool, accident: str | None) -> None:
        self.pass_time(pause_ms)
        self._sweep(force=force or self.world.stale is not None, accident=accident)

    @precondition(lambda self: self.world.stale is None and self.world.executions)
    @rule(pause_ms=st.sampled_from([LEASE_MS + 1_000, 70_000]))
    def begin_another_sweep(self, pause_ms: int) -> None:
        """Read what the next sweep acts on, which comes when other things have happened."""
        self.pass_time(pause_ms)
        self.world.stale = self.world.read_stale()

    @rule(pick=PICK, what=st.sampled_from(["lose", "double", "switch"]))
    def disturb_the_broker(self, pick: int, what: str) -> None:
        messages = self.world.broker.messages
        if what == "switch":
            self.world.broker.is_down = not self.world.broker.is_down
        elif messages and what == "lose":
            self.world.broker.take(pick)
        elif messages:
            messages.append(messages[pick % len(messages)])

    # ------------------------------------------------------------------------------------------------- checks

    @invariant()
    def records_agree(self) -> None:
        self.is_sound = False
        assert self.world.violations() == {}
        assert self._rows() == self._expected_rows()
        assert PLAY.surprises == []
        assert len(PLAY.calls) == len(set(PLAY.calls)), "user code was called twice under one fence"
        self.is_sound = True

    def _rows(self) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        run_rows = self.database.read(lambda tx: tx.execute(sa.select(*_RUN_COLUMNS)).all())
        for row in run_rows:
            found[row.id] = (row.status, row.generation, row.current_group, row.paused_at is not None)
        for row in self.database.read(lambda tx: tx.execute(_STAGE_ROWS).all()):
            self._bind(row)
            found[row.run_id, row.stage_id, row.generation] = (
                row.status, row.superseded_by is None, row.attempt, row.crashes, row.poll_crashes, row.fence,
                row.lease_until, row.next_poll_at, row.available_at if row.status == "PENDING" else None,
            )  # fmt: skip
        return found

    def _expected_rows(self) -> dict[Any, Any]:
        expected: dict[Any, Any] = {}
        for run_id, run in self.model.runs.items():
            expected[run_id] = (run.status, run.generation, run.group, run.is_paused)
            for stage in run.stages:
                expected[run_id, stage.stage_id, stage.generation] = (
                    stage.status, stage.is_live, stage.attempt, stage.crashes, stage.poll_crashes, stage.fence,
                    stage.lease_until, stage.next_poll_at, stage.available_at if stage.status == "PENDING" else None,
                )  # fmt: skip
        return expected

    def _bind(self, row: Any) -> None:
        self.dispatched[row.id] = row.dispatch_number
        if row.id not in self.stage_runs:
            run = self.model.runs.get(row.run_id)
            for stage in run.stages if run else ():
                if (stage.stage_id, stage.generation) == (row.stage_id, row.generation):
                    self.stage_runs[row.id] = (run, stage)

    def _check_that_due_work_has_messages(self, run: RunModel) -> None:
        self._rows()
        held = run.is_paused or run.workflow_id in self.model.paused_workflows or self.world.broker.is_down
        for stage_run_id, (owner, stage) in self.stage_runs.items():
            if owner is run and stage.is_live and run.is_live and not held and stage.is_due(self.model.now):
                assert self.world.broker.holds(stage_run_id, self.dispatched[stage_run_id])

    # ------------------------------------------------------------------------------------------------- doing it

    def _command(self, command: Callable[[], Any], accident: str | None = None, *, refused: bool = False) -> Any:
        """Call the engine, with an accident to its first transaction; None when the process died after its commit."""
        self.is_sound = False
        self.database.accidents = [] if accident is None else [accident]
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
        self.is_sound = True
        return result

    def _refuses(self, expectation: Callable[[], Any]) -> bool:
        try:
            expectation()
        except RefusedError:
            return True
        return False

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
        from workflow_engine.store.leases import leases_of  # noqa: PLC0415 - their order is the database's choice

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

    def _finish(self, execution: Execution, script: Script, accident: str | None) -> None:
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
        effects = Effects(engine, taken, held)
        outcome = _perform(engine, taken, effects, held)
        accepted = self._command(lambda: finish(engine, taken, outcome, effects.take_report()), accident)
        skips = stage.stage_id == "skippable" and run.number % 2 == 1
        expected = self.model.finish(run, stage, taken.fence, script, skips=skips)
        # A claim given back for want of a definition looks afterwards as if somebody else had released it.
        assert accepted in (None, expected) or script.unknown

    def _sweep(self, *, force: bool, accident: str | None) -> None:
        self.world.found.clear()
        goes_on = force or self.model.tick()
        may_reap = force or self.model.may_reap()
        report = self._command(lambda: commands.sweep(self.world.engine, force=force), accident)
        assert report.errors == {}
        if force or accident != "answer lost":
            assert report.skipped is not goes_on
        if not report.skipped:  # one whose tick was taken, but not answered, leaves the work to the next
            self._expect_sweep(may_reap=may_reap)
        self.world.stale = None

    def _expect_sweep(self, *, may_reap: bool) -> None:
        found, model, now = self.world.found, self.model, self.model.now
        is_fresh = self.world.stale is None
        leases: list[Lease] = found.get("leases", [])
        if is_fresh and may_reap:
            expired = {id_ for id_, (_, stage) in self.stage_runs.items() if (stage.lease_until or now) < now}
            assert {lease.stage_run_id for lease in leases} == expired
        for lease in leases:
            model.reap(*self.stage_runs[lease.stage_run_id], lease.fence, must_be_expired=True)
        for name, expire in (("suspensions", model.expire_suspension), ("queued", model.expire_queued)):
            repaired = [stage_run_id for stage_run_id in found[name] if expire(*self.stage_runs[stage_run_id])]
            assert not is_fresh or repaired == found[name]
            assert not is_fresh or not any(expire(*pair) for pair in self.stage_runs.values())
        ended = [run_id for run_id in found["runs"] if model.expire_run(model.runs[run_id])]
        assert not is_fresh or ended == found["runs"]
        assert not is_fresh or not any(model.expire_run(run) for run in model.runs.values())

    # ------------------------------------------------------------------------------------------------- the end

    def _come_to_rest(self) -> None:
        """End the accidents, let time and sweeps go on, and see every run end as it would have without them."""
        self.database.accidents.clear()
        self.world.broker.is_down = False
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


def machine_on(database: FaultyDatabase, *, comes_to_rest: bool = True) -> type[ProtocolMachine]:
    """Return the machine bound to a database."""
    bound = {"database": database, "comes_to_rest": comes_to_rest, "examples": 0}
    return type("BoundProtocolMachine", (ProtocolMachine,), bound)
