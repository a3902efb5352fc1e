"""Rerun from a stage: a new pass over the rest of the plan, in the same run, on the outputs recorded before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.commands.create_run import check_key
from workflow_engine.engine.transitions.new_stage_runs import new_stage_runs
from workflow_engine.engine.transitions.unit_of_work import with_run
from workflow_engine.errors import IdempotencyConflictError, RerunRefusedError, RunStateError
from workflow_engine.ids import new_id
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.moves import changes, run_moves
from workflow_engine.store.moves.new_rows import add_group
from workflow_engine.store.reads.event_queries import find_rerun
from workflow_engine.store.reads.runs import get_generation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow_engine.definition import Plan, Workflow
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun
    from workflow_engine.store.records import StageRow

_ENDED_WELL = (StageStatus.COMPLETED, StageStatus.SKIPPED)


@dataclass(frozen=True, slots=True)
class _Rerun:
    """What somebody asks for; the event of the rerun holds it, so that the same request is known again."""

    #: The idempotency key of the caller, else a nonce of the call.
    request: str
    #: None: the group that the run had come to.
    from_stage: str | None
    only: bool

    def to_json(self) -> dict[str, Any]:
        return {"request": self.request, "from_stage": self.from_stage, "only": self.only}


def rerun_run(
    engine: Engine,
    run_id: str,
    *,
    from_stage: str | None,
    only: bool = False,
    expected_generation: int | None = None,
    idempotency_key: str | None = None,
) -> int:
    """Start a new generation of a terminal run at the group of ``from_stage``; return its number.

    Outputs of earlier groups are reused; the rows of the old generation are kept as history. The plan from that
    group on is the present definition's. Without ``from_stage`` it starts at the group that the run had come to.
    ``only`` keeps the outputs of the stage's completed siblings. A request whose idempotency key was accepted for this
    run before changes nothing and returns the generation that it led to.

    Raises:
        RunNotFoundError: There is no such run.
        WorkflowNotFoundError: Its workflow is not registered here.
        StageNotFoundError: The workflow has no such stage.
        RunStateError: The run has not ended, or is not in ``expected_generation``: somebody else reran it meanwhile.
        RerunRefusedError: Earlier groups are not complete.
        IdempotencyConflictError: The key stands for a rerun from another stage.
    """
    asked = _Rerun(check_key(idempotency_key) or new_id(), from_stage, only)
    expected = expected_generation
    if expected is None:
        expected = engine.database.read(lambda tx: get_generation(tx, run_id))

    def act(run: LockedRun) -> int:
        earlier = _find_earlier(run, asked)
        if earlier is not None:
            return earlier
        workflow = engine.registry.get(run.row.workflow_id)
        plan = workflow.plan()
        live = run.live_stage_runs()
        group = group_to_rerun(workflow, plan, live, asked.from_stage or _stage_that_it_had_come_to(run, live))
        if not run.status.is_terminal or run.generation != expected:
            raise RunStateError(
                f"Run {run.id} is {run.status} in generation {run.generation}; only an ended run is rerun"
                + (f", and this request is for generation {expected}" if run.generation != expected else "")
            )
        _start_generation(engine, run, plan, group, asked)
        return run.generation

    return with_run(engine, run_id, act)


def _find_earlier(run: LockedRun, asked: _Rerun) -> int | None:
    """Return the generation that the same request led to: of an earlier call, or of a try whose answer was lost."""
    earlier = find_rerun(run.tx, run.id, asked.request)
    if earlier is None:
        return None
    if {**earlier.payload, **asked.to_json()} != earlier.payload:
        raise IdempotencyConflictError(
            f"Idempotency key {asked.request!r} stands for generation {earlier.generation} of run {run.id}, which was "
            f"rerun from stage {earlier.payload['from_stage']!r} (only: {earlier.payload['only']})"
        )
    return earlier.generation


def _stage_that_it_had_come_to(run: LockedRun, live: Sequence[StageRow]) -> str:
    return next(stage.stage_id for stage in live if stage.execution_group == run.row.current_group)


def group_to_rerun(workflow: Workflow[Any, Any], plan: Plan, live: Sequence[StageRow], stage_id: str) -> int:
    """Return the number of the stage's group, if the groups before it are complete and still those of the plan."""
    number = workflow.group_index(stage_id)
    places = places_before(plan, number)
    there = {
        row.stage_id for row in live if row.status in _ENDED_WELL and places.get(row.stage_id) == row.execution_group
    }
    if places.keys() - there:
        raise RerunRefusedError(
            f'Cannot rerun from stage "{stage_id}": no completed stages found before execution group {number}'
            + _missing(places.keys() - there)
        )
    return number


def _missing(stage_ids: set[str]) -> str:
    return f" (missing: {', '.join(sorted(stage_ids))})"


def _start_generation(engine: Engine, run: LockedRun, plan: Plan, group: int, asked: _Rerun) -> None:
    live = run.live_stage_runs()
    kept = _kept_stage_runs(live, plan, group, asked.from_stage if asked.only else None)
    kept_ids = {stage.id for stage in kept}
    for stage in live:
        if stage.id not in kept_ids:
            changes.supersede(run, stage)
    planned = [stage for stage in plan.groups[group - 1] if stage.id not in {row.stage_id for row in kept}]
    deadline = engine.registry.get(run.row.workflow_id).deadline
    new = run_moves.NewGeneration(
        plan=plan.to_json(),
        input_group=input_group_of(kept, group),
        deadline_in_ms=None if deadline is None else to_milliseconds(deadline),
        told={"from_stages": [stage.id for stage in planned], **asked.to_json()},
    )
    run_moves.rerun(run, new)
    add_group(run, group, new_stage_runs(planned, engine.settings))


def _kept_stage_runs(live: Sequence[StageRow], plan: Plan, group: int, only: str | None) -> list[StageRow]:
    """Return the stage runs that stay: those of earlier groups, and siblings of a stage rerun alone.

    What the present definition does not have in that place any more is history, too.
    """
    places = places_before(plan, group)
    if only is not None:
        places |= {stage.id: group for stage in plan.groups[group - 1] if stage.id != only}
    return [row for row in live if row.status in _ENDED_WELL and places.get(row.stage_id) == row.execution_group]


def places_before(plan: Plan, group: int) -> dict[str, int]:
    """Return the number of its group for every stage of the groups before ``group``."""
    return {stage.id: stage.group for members in plan.groups[: group - 1] for stage in members}


def input_group_of(live: Sequence[StageRow], group: int) -> int:
    """Return the number of the group whose outputs are the input of ``group``; 0 stands for the run's own input."""
    earlier = [
        row.execution_group for row in live if row.execution_group < group and row.status is StageStatus.COMPLETED
    ]
    return max(earlier, default=0)
