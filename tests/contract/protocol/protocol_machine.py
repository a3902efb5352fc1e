"""The machine: random steps in random order, with accidents, against the real engine and the model beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from protocol_play import GOOD, WORKFLOWS, Script
from protocol_steps import Steps
from protocol_world import LEASE_MS

if TYPE_CHECKING:
    from protocol_world import FaultyDatabase

MOST_RUNS = 3
EXAMPLES_OF_A_SEED = 15
STEPS_OF_AN_EXAMPLE = 30
#: What the gate explores: fixed, so that it says the same twice, and begun where planted bugs are met soon.
GATE_SEEDS = range(19, 25)
#: Which one of what there is: taken modulo their number.
PICK = st.integers(0, 7)
WORKFLOW_IDS = st.sampled_from(sorted(WORKFLOWS))
WORKERS = st.sampled_from(["host:1:a", "host:1:a", "host:2:b"])
SCRIPTS = st.sampled_from(
    [
        GOOD,
        GOOD,
        GOOD,
        Script("suspend", "pending", 9_000),
        Script("suspend", "pending", 9_000),
        Script("suspend", "ready"),
        Script("suspend", "unreachable"),
        Script("suspend", "fail"),
        Script("retry", "later", 700),
        Script("later", "pending", 1),
        Script("break", "break"),
        Script(unknown=True),
    ]
)
ACCIDENTS = st.sampled_from([None, None, "answer lost", "rolled back", "died", "broker down"])
SWEEP_ACCIDENTS = st.sampled_from([None, "answer lost", "rolled back", "broker down"])
PAUSES_MS = st.sampled_from([0, 2_000, 5_100, 11_000, LEASE_MS + 1_000, LEASE_MS + 1_000, 130_000, 410_000])


class ProtocolMachine(Steps, RuleBasedStateMachine):
    """Bound to a database by ``machine_on``."""

    #: Whether each example ends with the accidents over and every run ended; it costs about half of the time.
    comes_to_rest: ClassVar[bool] = True
    #: Examples so far.
    examples: ClassVar[int] = 0

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        Steps.__init__(self)
        type(self).examples += 1

    def teardown(self) -> None:
        try:
            if self.is_sound and self.comes_to_rest:
                self.come_to_rest()
        finally:
            self.world.close()

    @invariant()
    def model_and_records_agree(self) -> None:
        self.records_agree()

    @initialize(
        workflow_id=WORKFLOW_IDS, number=st.integers(0, 1), past=st.lists(SCRIPTS, max_size=3), taken=st.integers(0, 2)
    )
    def begin(self, workflow_id: str, number: int, past: list[Script], taken: int) -> None:
        """Start in the middle of a run: some stages have had an attempt, others are being executed or polled."""
        self.create(workflow_id, number, key=None, accident=None)
        for script in past:
            self.records_agree()
            self.take_and_finish(0, "host:1:a", script, accident=None)
        for _ in range(taken):
            self.records_agree()
            self.wait_for_what_is_next()
            self.take(0, "host:1:a", accident=None)

    # Workers and time do most of what happens: they are here twice.

    @rule(pick=PICK, worker=WORKERS, accident=ACCIDENTS)
    def claim(self, pick: int, worker: str, accident: str | None) -> None:
        self.take(pick, worker, accident)

    @rule(pick=PICK, worker=WORKERS)
    def wait_and_claim(self, pick: int, worker: str) -> None:
        self.wait_for_what_is_next()
        self.take(pick, worker, None)

    @rule(pick=PICK, worker=WORKERS, script=SCRIPTS)
    def execute(self, pick: int, worker: str, script: Script) -> None:
        self.take_and_finish(pick, worker, script, None)

    @rule(pick=PICK, worker=WORKERS)
    def claim_anything(self, pick: int, worker: str) -> None:
        self.take_anything(pick, worker)

    @precondition(lambda self: self.world.executions)
    @rule(pick=PICK, script=SCRIPTS, accident=ACCIDENTS)
    def end(self, pick: int, script: Script, accident: str | None) -> None:
        self.finish(pick, script, accident)

    @precondition(lambda self: self.world.executions)
    @rule(script=SCRIPTS, accident=ACCIDENTS)
    def end_the_oldest(self, script: Script, accident: str | None) -> None:
        self.finish(0, script, accident)

    @precondition(lambda self: self.world.executions)
    @rule(worker=WORKERS, what=st.sampled_from(["renew", "reap", "release"]))
    def look_at_a_worker(self, worker: str, what: str) -> None:
        if what == "renew":
            self.renew(worker)
        else:
            self.stop_a_worker(worker, is_dead=what == "reap")

    @rule(pause_ms=PAUSES_MS)
    def wait(self, pause_ms: int) -> None:
        self.pass_time(pause_ms)

    @rule(pause_ms=PAUSES_MS, force=st.booleans(), accident=SWEEP_ACCIDENTS)
    def beat(self, pause_ms: int, *, force: bool, accident: str | None) -> None:
        self.sweep(pause_ms, force=force, accident=accident)

    @precondition(lambda self: self.world.stale is None and self.world.executions)
    @rule(pause_ms=st.sampled_from([LEASE_MS + 1_000, 70_000]))
    def another_beat(self, pause_ms: int) -> None:
        self.begin_another_sweep(pause_ms)

    @rule(pick=PICK, loses=st.booleans())
    def disturb(self, pick: int, *, loses: bool) -> None:
        self.disturb_the_broker(pick, loses=loses)

    @precondition(lambda self: len(self.model.runs) < MOST_RUNS)
    @rule(workflow_id=WORKFLOW_IDS, number=st.integers(0, 1), key=st.sampled_from([None, "key"]), accident=ACCIDENTS)
    def ask_for_a_run(self, workflow_id: str, number: int, key: str | None, accident: str | None) -> None:
        self.create(workflow_id, number, key, accident)

    @precondition(lambda self: not all(run.is_live for run in self.model.runs.values()))
    @rule(pick=PICK, stage=PICK, how=st.sampled_from(["all", "only", "fork"]), accident=ACCIDENTS)
    def do_again(self, pick: int, stage: int, how: str, accident: str | None) -> None:
        if how != "fork":
            self.rerun(pick, stage, only=how == "only", accident=accident)
        elif len(self.model.runs) < MOST_RUNS:
            self.fork(pick, stage, accident)

    @rule(pick=PICK, accident=ACCIDENTS)
    def wake_up(self, pick: int, accident: str | None) -> None:
        self.wake(pick, accident)

    @rule(pick=PICK, what=st.sampled_from(["cancel", "complete", "fail", "pause", "hold"]), accident=ACCIDENTS)
    def interfere(self, pick: int, what: str, accident: str | None) -> None:
        if what == "cancel":
            self.cancel(pick, accident)
        elif what == "pause":
            self.pause(pick)
        elif what == "hold":
            self.pause_or_resume_workflow(sorted(WORKFLOWS)[pick % len(WORKFLOWS)])
        else:
            self.callback(pick, well=what == "complete", accident=accident)

    @precondition(lambda self: self.model.paused_workflows or any(run.is_paused for run in self.model.runs.values()))
    @rule(pick=PICK, accident=ACCIDENTS)
    def let_go(self, pick: int, accident: str | None) -> None:
        if self.model.paused_workflows:
            self.pause_or_resume_workflow(min(self.model.paused_workflows))
        else:
            self.resume(pick, accident)


def machine_on(database: FaultyDatabase, *, comes_to_rest: bool = True) -> type[ProtocolMachine]:
    """Return the machine bound to a database."""
    bound = {"database": database, "comes_to_rest": comes_to_rest, "examples": 0}
    return type("BoundProtocolMachine", (ProtocolMachine,), bound)


def explore(machine: type[ProtocolMachine], *, seeds: range, shrinks: bool = True) -> None:
    """Run a batch of examples from each seed: Hypothesis soon varies what it has, and fresh starts find more."""
    phases = [Phase.generate, Phase.shrink] if shrinks else [Phase.generate]
    budget = settings(
        max_examples=EXAMPLES_OF_A_SEED,
        stateful_step_count=STEPS_OF_AN_EXAMPLE,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    for number in seeds:
        run_state_machine_as_test(seed(number)(machine), settings=budget)
