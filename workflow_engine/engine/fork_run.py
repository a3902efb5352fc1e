"""Fork: a new run that shares the outputs of an earlier one up to a stage, with its own config from there on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.create_run import CreatedRun, check_priority
from workflow_engine.engine.plans import new_group
from workflow_engine.engine.rerun_run import group_to_rerun, input_group_of, places_before
from workflow_engine.errors import RunNotFoundError
from workflow_engine.events import EventType
from workflow_engine.ids import new_id
from workflow_engine.payload import decode_json, encode_json
from workflow_engine.redact import redacting
from workflow_engine.store.forks import copy_columns, copy_metadata, stage_runs_to_share
from workflow_engine.store.moves import LockedRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow_engine.engine.core import Engine
    from workflow_engine.store.moves import Transaction


def fork_run(
    engine: Engine,
    run_id: str,
    *,
    from_stage: str,
    config: Mapping[str, Any] | None = None,
    priority: int | None = None,
) -> CreatedRun:
    """Create a run that starts at the group of ``from_stage`` on the outputs of ``run_id``; durable when it returns.

    The config is the earlier run's with ``config`` merged over it. The earlier run may be live and is not changed.

    Raises:
        RunNotFoundError, WorkflowNotFoundError, StageNotFoundError: As the names say.
        InvalidRequestError: The merged config, or the priority, is not valid; nothing was written.
        RerunRefusedError: The earlier run has no complete groups before that stage.
    """
    fork_id = new_id()

    def work(tx: Transaction) -> LockedRun | None:
        source = LockedRun.find(tx, run_id)
        if source is None:
            raise RunNotFoundError(run_id)
        workflow = engine.registry.get(source.row["workflow_id"])
        plan = workflow.plan()
        live = source.live_stage_runs()
        group = group_to_rerun(workflow, plan, live, from_stage)
        with redacting(engine.redactor):
            merged = workflow.resolve_config(_merge(decode_json(source.row["config"]), config or {}))
        values = {
            **copy_columns(source.row),
            "id": fork_id,
            "plan": plan.to_json(),
            "config": encode_json(merged, what="config", max_bytes=engine.settings.max_payload_bytes),
            "priority": source.row["priority"] if priority is None else check_priority(priority),
            "forked_from": run_id,
        }
        fork = LockedRun.insert(tx, values)
        if fork is None:
            return None  # an earlier try of this call took effect
        copy_metadata(tx, run_id, fork_id)
        places = places_before(plan, group)
        shared = [row for row in live if places.get(row.stage_id) == row.execution_group]
        fork.share_outputs(stage_runs_to_share(tx, [row.id for row in shared]))
        fork.set(input_group=input_group_of(shared, group))
        if workflow.deadline is not None:
            fork.set(deadline_at=fork.now + to_milliseconds(workflow.deadline))
        fork.record(EventType.RUN_CREATED, forked_from=run_id, from_stage=from_stage)
        fork.add_group(group, new_group(plan, group, engine.settings))
        fork.save()
        return fork

    fork = engine.database.transact(work)
    if fork is not None:
        engine.dispatcher.dispatch(fork.hints)
    return CreatedRun(fork_id, is_new=True)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
