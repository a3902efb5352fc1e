"""The fault campaign: real workers, beats, Redis and PostgreSQL under load, with faults drawn at random.

``python -m tests.faults.campaign --minutes 30`` prints its seed, what it injected, and what came of it; it exits with
1 when a promise was broken. A seed repeats the choices, not the timing.
"""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import shutil
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.chaos import FAULTS, Chaos
from tests.faults.cluster import Cluster, Pace
from tests.faults.load import workflows
from tests.faults.steering import Steering
from tests.faults.verdict import LOST, QuietRuns, observe, read_outputs
from workflow_engine.definition.workflows.registry import as_registry
from workflow_engine.engine import CreateRun, Engine, create_run
from workflow_engine.store.upkeep.invariants import find_violations
from workflow_engine.worker.app import create_app
from workflow_engine.worker.wire.dispatcher import CeleryDispatcher

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Runs that are under way at a time, at most.
MOST_LIVE = 25
#: Inputs are drawn from so few that the quiet runs to compare with stay cheap.
INPUTS = 12
#: A run that has not ended so long after the last fault is stuck.
PATIENCE = timedelta(seconds=90)
#: The long checks of the records come this often.
CHECK_EVERY = 10.0


@dataclass
class Plan:
    """What to do to whom."""

    seed: int
    duration: timedelta
    pace: Pace = field(default_factory=Pace)
    #: Names of the faults to draw from; all by default.
    faults: Sequence[str] = tuple(FAULTS)
    #: Ids of the workflows to draw from; all by default.
    load: Sequence[str] = tuple(workflow.id for workflow in workflows)
    workers: int = 2
    ablation: str | None = None
    patience: timedelta = PATIENCE
    #: Longest calm between two faults, in seconds.
    calm: float = 2.0
    #: Runs that are under way at a time, at most.
    most_live: int = MOST_LIVE
    #: Whether every execution must come to its end: nothing is killed, stalled or cut off.
    must_not_lose: bool = False
    #: Whether runs are rerun, cancelled and paused meanwhile.
    is_steered: bool = True


@dataclass
class Result:
    """What came of a campaign."""

    plan: Plan
    injected: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    figures: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    checks: int = 0
    seconds: float = 0.0
    seconds_to_settle: float = 0.0


class Campaign:
    """One campaign on one cluster."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self._cluster = cluster
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._chaos = Chaos(cluster, self._random)
        self._result = Result(plan)
        #: Run id -> workflow id and input.
        self._runs: dict[str, tuple[str, int]] = {}
        self._asked = 0
        self._told = 0
        self._last_check = 0.0

    def run(self) -> Result:
        """Load and break for the planned time, heal, wait for everything to end, and judge."""
        clock = self._cluster.clock
        started = clock.monotonic()
        app = create_app(self._cluster.settings, name="campaign")
        engine = Engine.build(
            settings=self._cluster.settings,
            registry=as_registry(workflows),
            dispatcher=CeleryDispatcher(app, self._cluster.settings),
        )
        try:
            steering = Steering(engine, self._random)
            self._top_up(engine)
            while clock.monotonic() - started < self._plan.duration.total_seconds():
                self._pause(self._random.uniform(0.2, self._plan.calm))
                self._inject()
                self._steer(steering)
                self._top_up(engine)
                self._watch()
                self._tell_problems()
            self._settle()
        finally:
            engine.close()
        self._judge()
        self._result.seconds = clock.monotonic() - started
        return self._result

    def _inject(self) -> None:
        names = list(self._plan.faults)
        name = self._random.choices(names, [FAULTS[name][1] for name in names])[0]
        if FAULTS[name][0](self._chaos) is not False:
            self._result.injected[name] += 1

    def _steer(self, steering: Steering) -> None:
        name = steering.steer(list(self._runs)) if self._plan.is_steered else None
        if name is not None:
            self._result.commands[name] += 1

    def _top_up(self, engine: Engine) -> None:
        """Create runs until enough are under way; what an outage interrupts is asked for again with the same key."""
        for _ in range(self._plan.most_live - self._count_live()):
            self._asked += 1
            workflow_id, n = self._random.choice(self._plan.load), self._random.randrange(INPUTS)
            request = CreateRun(workflow_id, {"n": n}, idempotency_key=f"run-{self._asked}")
            run_id = create_run(engine, request).run_id
            again = create_run(engine, request)
            if again.is_new or again.run_id != run_id:
                self._result.problems.append(f"run-{self._asked} was created twice: {run_id} and {again.run_id}")
            self._runs[run_id] = workflow_id, n

    def _watch(self) -> None:
        """Look for what must never be: broken records, and processes that ended by themselves."""
        for member in self._cluster.members:
            if member.has_ended() and not member.may_end:
                self._result.problems.append(f"{member.name} ended by itself with {member.wait()}")
                member.start()
        now = self._cluster.clock.monotonic()
        if now - self._last_check > CHECK_EVERY:
            self._check()
            self._last_check = self._cluster.clock.monotonic()

    def _tell_problems(self) -> None:
        """Say at once what is wrong: the end of a long campaign is far away."""
        for problem in self._result.problems[self._told :]:
            print(f"problem: {problem}", file=sys.stderr, flush=True)
        self._told = len(self._result.problems)

    def _check(self, *, final: bool = False) -> None:
        self._result.checks += 1
        for name, ids in find_violations(self._cluster.database, final=final).items():
            self._result.problems.append(f"invariant {name}: {', '.join(ids[:3])}")

    def _settle(self) -> None:
        """Wait until every run has ended, with everything healthy."""
        clock = self._cluster.clock
        healed = clock.monotonic()
        while self._count_live() and clock.monotonic() - healed < self._plan.patience.total_seconds():
            self._watch()
            self._pause(0.5)
        self._result.seconds_to_settle = clock.monotonic() - healed

    def _judge(self) -> None:
        self._check(final=True)
        quiet = QuietRuns(self._cluster.settings)
        quiet.prepare(set(self._runs.values()))
        for run_id, (workflow_id, n) in self._runs.items():
            if read_outputs(self._cluster.database, run_id) != quiet.outputs(workflow_id, n):
                self._result.problems.append(f"run {run_id} of {workflow_id}({n}) has other outputs than a quiet run")
        self._result.problems += self._find_bad_ends()
        observed = observe(self._cluster)
        self._result.problems += observed.problems
        lost = observed.figures[LOST]
        if self._plan.must_not_lose and lost:
            self._result.problems.append(f"{lost} executions were lost, although nobody disturbed them")
        self._result.figures = {
            "runs": len(self._runs),
            "runs asked for twice under one key": self._asked,
            **observed.figures,
            "messages injected": self._chaos.extra_messages,
        }

    def _find_bad_ends(self) -> list[str]:
        """Return warm ends that were not warm."""
        ends = [(worker.name, code) for worker in self._cluster.workers for code in worker.exits]
        return [f"{name} ended with {code}" for name, code in ends if code not in (0, -9)]

    def _count_live(self) -> int:
        query = "SELECT count(*) FROM workflow_runs WHERE status IN ('PENDING', 'RUNNING')"
        return int(self._cluster.database.read(lambda tx: tx.exec_driver_sql(query).scalar_one()))

    def _pause(self, seconds: float) -> None:
        self._cluster.pause(timedelta(seconds=seconds))


def conduct(plan: Plan, *, keep_logs: Path | None = None) -> Result:
    """Run a campaign on a cluster of its own.

    Args:
        plan: What to do.
        keep_logs: A folder for the logs of workers and beats, and the ledger.
    """
    with Cluster(plan.pace, workers=plan.workers, ablation=plan.ablation) as cluster:
        try:
            return Campaign(cluster, plan).run()
        finally:
            if keep_logs is not None:
                keep_logs.mkdir(parents=True, exist_ok=True)
                for path in [*cluster.home.glob("*.log"), *cluster.home.glob("ledger")]:
                    shutil.copy(path, keep_logs)


def describe(result: Result) -> str:
    """Return the table that a campaign ends with."""
    rows: list[tuple[str, object]] = [
        ("seed", result.plan.seed),
        ("duration", f"{result.seconds:.0f} s, all ended {result.seconds_to_settle:.1f} s after the last fault"),
        ("", ""),
        *((f"fault: {name}", count) for name, count in sorted(result.injected.items())),
        ("faults in all", result.injected.total()),
        *((f"command: {name}", count) for name, count in sorted(result.commands.items())),
        ("", ""),
        *result.figures.items(),
        ("checks of the records", result.checks),
        ("", ""),
        ("problems", len(result.problems)),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}".rstrip() for name, value in rows]
    return "\n".join([*lines, *result.problems[:50]])


def stop_in_good_order() -> None:
    """Let SIGTERM end the cluster's processes as well, and keep what the quiet runs log, attempts that fail as they should, off the screen."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    logging.getLogger("workflow_engine").setLevel(logging.CRITICAL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--logs", type=Path, default=None, help="folder for the logs of workers and beats")
    options = parser.parse_args(arguments)
    stop_in_good_order()
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    print(f"seed {seed}", flush=True)
    result = conduct(Plan(seed, timedelta(minutes=options.minutes)), keep_logs=options.logs)
    print(describe(result))
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
