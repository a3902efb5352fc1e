"""Create a run: known workflow, valid input, config merged and valid, then one transaction, then the first messages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from workflow_engine.arguments import LONGEST_IDEMPOTENCY_KEY, check_text
from workflow_engine.clock import find_duration_problem, instant_to_ms, to_milliseconds
from workflow_engine.engine.transitions.new_stage_runs import new_group
from workflow_engine.engine.transitions.unit_of_work import after_commit
from workflow_engine.errors import IdempotencyConflictError, InvalidDataError
from workflow_engine.events import EventType
from workflow_engine.ids import new_id
from workflow_engine.payloads.secrets import redacting
from workflow_engine.payloads.text import encode_json
from workflow_engine.payloads.unset_fields import MARK
from workflow_engine.priorities import check_priority
from workflow_engine.store.moves import changes
from workflow_engine.store.moves.new_rows import add_group, insert_run
from workflow_engine.store.reads.run_metadata import LONGEST_KEY, insert_metadata
from workflow_engine.store.reads.runs import find_by_idempotency_key
from workflow_engine.store.records import NewRun

if TYPE_CHECKING:
    from workflow_engine.definition import Workflow
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.moves.locked_run import LockedRun, Transaction


@dataclass(frozen=True, slots=True)
class CreateRun:
    """What somebody asks for."""

    #: A workflow or the id of one.
    workflow: Workflow[Any, Any] | str
    input: object = None
    #: Overrides of the stages' default configs, by stage id.
    config: Mapping[str, Any] | None = None
    #: None: the priority that the registry has for runs of the workflow.
    priority: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    #: An instant, or a duration from now on the database's clock; the run fails when it passes.
    deadline: datetime | timedelta | None = None
    #: No stage is claimed before this instant; one in the past means now.
    start_after: datetime | None = None
    parent_run_id: str | None = None
    parent_stage_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """The run that the request stands for."""

    run_id: str
    #: False when an earlier request with the same idempotency key had created it.
    is_new: bool


def create_run(engine: Engine, request: CreateRun) -> CreatedRun:
    """Validate the request and create its run; durable when this returns, also when the broker is down.

    Raises:
        WorkflowNotFoundError: The workflow is not registered here.
        InvalidRequestError: Input, config, metadata, priority or a time is refused; nothing was written.
        IdempotencyConflictError: The key stands for a run of another workflow, input or config, or for a fork.
    """
    workflow = _workflow_of(engine, request)
    with redacting(engine.redactor):
        new, deadline = _new_run(engine, workflow, request)
    start_after = _instant(request.start_after, "start_after")

    def work(tx: Transaction) -> tuple[CreatedRun, LockedRun | None]:
        while (run := insert_run(tx, new)) is None:
            if (existing := existing_run(tx, new.id, new.idempotency_key, new.request_fingerprint)) is not None:
                return existing, None
        if deadline is not None:
            changes.set_deadline(run, to_milliseconds(deadline))
        insert_metadata(tx, run.id, request.metadata)
        run.record(EventType.RUN_CREATED)
        add_group(run, 1, new_group(workflow.plan(), 1, engine.settings), start_after=start_after)
        run.save()
        return CreatedRun(run.id, is_new=True), run

    created, run = engine.database.transact(work)
    if run is not None:
        after_commit(engine, run)
    return created


def _workflow_of(engine: Engine, request: CreateRun) -> Workflow[Any, Any]:
    if isinstance(request.workflow, str):
        return engine.registry.get(request.workflow)
    # The registered definition is the one that workers execute; one of the same id that differs would surprise.
    return engine.registry.get(request.workflow.id)


def _new_run(engine: Engine, workflow: Workflow[Any, Any], request: CreateRun) -> tuple[NewRun, timedelta | None]:
    """Validate everything and return the run to insert, and its deadline where that is counted from now."""
    settings = engine.settings
    what = f'input of workflow "{workflow.id}"'
    value = {} if request.input is None and not _accepts_none(workflow) else request.input
    input_text = workflow.input.store(value, what=what, max_bytes=settings.max_payload_bytes)
    config = encode_json(
        workflow.resolve_config(request.config),
        what=f'config of workflow "{workflow.id}"',
        max_bytes=settings.max_payload_bytes,
    )
    deadline = request.deadline if request.deadline is not None else workflow.deadline
    if isinstance(deadline, timedelta):
        _check_deadline(deadline)
    new = NewRun(
        id=new_id(),
        workflow_id=workflow.id,
        workflow_name=workflow.name,
        workflow_type=workflow.type,
        workflow_version=workflow.version,
        priority=_priority_of(engine, workflow, request.priority),
        plan=workflow.plan().to_json(),
        input=input_text,
        config=config,
        metadata=_metadata_text(request.metadata, settings.max_metadata_bytes),
        idempotency_key=check_key(request.idempotency_key),
        # As earlier releases wrote the input: without saying which fields were set.
        request_fingerprint=fingerprint_of(workflow.id, input_text.replace(MARK, ""), config),
        deadline_at=None if isinstance(deadline, timedelta) else _instant(deadline, "deadline"),
        parent_run_id=request.parent_run_id,
        parent_stage_run_id=request.parent_stage_run_id,
    )
    return new, deadline if isinstance(deadline, timedelta) else None


def _accepts_none(workflow: Workflow[Any, Any]) -> bool:
    try:
        workflow.input.parse(None, what="input")
    except InvalidDataError:
        return False
    return True


def _priority_of(engine: Engine, workflow: Workflow[Any, Any], asked: int | None) -> int:
    return engine.registry.priority_of(workflow.id) if asked is None else check_priority(asked)


def _metadata_text(metadata: object, max_bytes: int) -> str:
    if not isinstance(metadata, Mapping):
        raise InvalidDataError("metadata", [f"must be a mapping, got {type(metadata).__name__}"])
    long = [key for key in metadata if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY]
    if long:
        raise InvalidDataError(
            "metadata",
            [f"key {str(key)[:60]!r} must be a text of 1 to {LONGEST_KEY} characters" for key in long],
        )
    return encode_json(dict(metadata), what="metadata", max_bytes=max_bytes)


def check_key(key: object) -> str | None:
    """Return an idempotency key, or None for None.

    Raises:
        InvalidDataError: It is something else than a text of 1 to 255 printable characters.
    """
    return None if key is None else check_text("idempotency_key", key, longest=LONGEST_IDEMPOTENCY_KEY)


def _instant(instant: object, name: str) -> int | None:
    if instant is None:
        return None
    if not isinstance(instant, datetime):
        raise InvalidDataError(name, [f"must be an aware datetime, got {type(instant).__name__}"])
    try:
        return instant_to_ms(instant)
    except ValueError as error:
        raise InvalidDataError(name, [str(error)]) from None


def _check_deadline(deadline: timedelta) -> None:
    problem = find_duration_problem(deadline)
    if problem is not None:
        raise InvalidDataError("deadline", [f"deadline {problem}"])


def fingerprint_of(*texts: str) -> str:
    """Return what tells two requests under one idempotency key apart."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def existing_run(tx: Transaction, run_id: str, key: str | None, fingerprint: str | None) -> CreatedRun | None:
    """Return the run that stands for the request, because the key, or an earlier try of this call, was first.

    None: the run that had the key was deleted since.
    """
    if key is None:
        return CreatedRun(run_id, is_new=True)
    accepted = find_by_idempotency_key(tx, key)
    if accepted is None:
        return None
    if accepted.run_id == run_id:
        return CreatedRun(run_id, is_new=True)
    if accepted.request_fingerprint != fingerprint:
        raise IdempotencyConflictError(
            f"Idempotency key {key!r} stands for run {accepted.run_id}, "
            "which has another workflow, input or config, or is another fork"
        )
    return CreatedRun(accepted.run_id, is_new=False)
