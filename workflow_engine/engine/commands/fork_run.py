"""Fork: a new run that shares the outputs of an earlier one up to a stage, with its own config from there on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow_engine.clock import to_milliseconds
from workflow_engine.engine.commands.create_run import (
    CreatedRun,
    check_key,
    existing_run,
    fingerprint_of,
)
from workflow_engine.engine.commands.rerun_run import group_to_rerun, input_group_of, places_before
from workflow_engine.engine.transitions.new_stage_runs import new_group
from workflow_engine.engine.transitions.unit_of_work import after_commit
from workflow_engine.errors import InvalidDataError, RunNotFoundError, RunStateError
from workflow_engine.events import EventType
from workflow_engine.ids import new_id
from workflow_engine.payloads.secrets import redacting
from workflow_engine.payloads.text import decode_json, encode_json
from workflow_engine.priorities import check_priority
from workflow_engine.store.moves import changes
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.moves.new_rows import add_group, insert_run, share_outputs
from workflow_engine.store.reads.run_metadata import copy_metadata
from workflow_engine.store.records import NewRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow_engine.definition import Workflow
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import Transaction
    from workflow_engine.store.records import RunRow, StageRow


@dataclass(frozen=True, slots=True)
class _Fork:
    """What somebody asks for."""

    id: str
    run_id: str
    from_stage: str
    config: Mapping[str, Any]
    priority: int | None
    expected_generation: int | None
    key: str | None

    @property
    def fingerprint(self) -> str:
        config = json.dumps(decode_json(encode_json(self.config, what="config")), sort_keys=True)
        return fingerprint_of("fork", self.run_id, self.from_stage, config)


def fork_run(
    engine: Engine,
    run_id: str,
    *,
    from_stage: str,
    config: Mapping[str, Any] | None = None,
    priority: int | None = None,
    expected_generation: int | None = None,
    idempotency_key: str | None = None,
) -> CreatedRun:
    """Create a run that starts at the group of ``from_stage`` on the outputs of ``run_id``; durable when it returns.

    The config is the earlier run's with ``config`` merged over it. The earlier run may be live and is not changed.
    The same idempotency key with the same run, stage and config returns the same fork.

    Raises:
        RunNotFoundError, WorkflowNotFoundError, StageNotFoundError: As the names say.
        InvalidRequestError: The merged config, the key, or the priority, is not valid; nothing was written.
        RunStateError: The earlier run is not in ``expected_generation``: its outputs are not those that the caller saw.
        RerunRefusedError: The earlier run has no complete groups before that stage.
        IdempotencyConflictError: The key stands for a run that was created otherwise.
    """
    if config is not None and not isinstance(config, Mapping):
        raise InvalidDataError("config", [f"must be a mapping of stage ids, got {type(config).__name__}"])
    key = check_key(idempotency_key)
    asked = _Fork(new_id(), run_id, from_stage, config or {}, priority, expected_generation, key)
    created, fork = engine.database.transact(lambda tx: _find_or_create(engine, tx, asked))
    if fork is not None:
        after_commit(engine, fork)
    return created


def _find_or_create(engine: Engine, tx: Transaction, asked: _Fork) -> tuple[CreatedRun, LockedRun | None]:
    request = asked.id, asked.key, asked.fingerprint
    if asked.key is not None and (existing := existing_run(tx, *request)) is not None:
        return existing, None  # before anything is checked: the run that it came from may look different by now
    source = LockedRun.find(tx, asked.run_id)
    if source is None:
        raise RunNotFoundError(asked.run_id)
    if asked.expected_generation not in (None, source.generation):
        raise RunStateError(
            f"Run {source.id} is in generation {source.generation}; this request is for generation "
            f"{asked.expected_generation}"
        )
    workflow = engine.registry.get(source.row.workflow_id)
    live = source.live_stage_runs()
    group = group_to_rerun(workflow, workflow.plan(), live, asked.from_stage)
    new = _new_run(engine, workflow, source.row, asked)
    while (fork := insert_run(tx, new)) is None:
        if (existing := existing_run(tx, *request)) is not None:
            return existing, None
    copy_metadata(tx, source.id, fork.id)
    _begin(engine, workflow, fork, group, live)
    fork.record(EventType.RUN_CREATED, forked_from=asked.run_id, from_stage=asked.from_stage)
    fork.save()
    return CreatedRun(fork.id, is_new=True), fork


def _new_run(engine: Engine, workflow: Workflow[Any, Any], source: RunRow, asked: _Fork) -> NewRun:
    with redacting(engine.redactor):
        merged = workflow.resolve_config(_merge(decode_json(source.config), asked.config))
    return NewRun(
        id=asked.id,
        workflow_id=source.workflow_id,
        workflow_name=source.workflow_name,
        workflow_type=source.workflow_type,
        workflow_version=source.workflow_version,
        priority=source.priority if asked.priority is None else check_priority(asked.priority),
        plan=workflow.plan().to_json(),
        input=source.input,
        config=encode_json(merged, what="config", max_bytes=engine.settings.max_payload_bytes),
        metadata=source.metadata,
        idempotency_key=asked.key,
        request_fingerprint=asked.fingerprint,
        forked_from=source.id,
    )


def _begin(engine: Engine, workflow: Workflow[Any, Any], fork: LockedRun, group: int, live: Sequence[StageRow]) -> None:
    """Give the fork the past that it shares, and its first group."""
    plan = workflow.plan()
    places = places_before(plan, group)
    shared = [row for row in live if places.get(row.stage_id) == row.execution_group]
    share_outputs(fork, [row.id for row in shared])
    if workflow.deadline is not None:
        changes.set_deadline(fork, to_milliseconds(workflow.deadline))
    add_group(fork, group, new_group(plan, group, engine.settings), input_group=input_group_of(shared, group))


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
