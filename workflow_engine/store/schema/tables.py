"""The tables. Instants are milliseconds since the epoch by the database's clock; payloads are ASCII JSON text.

Payloads are opaque to SQL: written once, never parsed or rewritten by the database. Rows of stage runs are
never reused: a rerun marks them superseded and inserts new ones, so ``(id, fence)`` names one claim for ever.
The CHECK constraints and the partial unique index state what must hold whatever the code does.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.schema.column_types import Id, Label

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Name = Label(200)


def _one_of(column: str, values: list[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


_RUN_STATUSES = [status.value for status in RunStatus if status is not RunStatus.SUSPENDED]
_TERMINAL_STAGES = [status.value for status in StageStatus if status.is_terminal]
_WAITING = "superseded_by IS NULL AND status IN ('PENDING', 'SUSPENDED')"

runs = Table(
    "workflow_runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("workflow_id", Name, nullable=False),
    Column("workflow_name", Text, nullable=False),
    Column("workflow_type", Text),
    Column("workflow_version", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("paused_at", BigInteger),
    # One pass over the plan; +1 for each rerun.
    Column("generation", Integer, nullable=False, server_default="0"),
    # The group whose stage runs are live, and the group whose outputs are their input (0: the run's own input).
    Column("current_group", Integer, nullable=False),
    Column("input_group", Integer, nullable=False, server_default="0"),
    # The group whose outputs are the run's output, once COMPLETED (0: every stage was skipped).
    Column("output_group", Integer),
    # Counters of the live group: active stage runs, failed stage runs.
    Column("remaining", Integer, nullable=False),
    Column("failed", Integer, nullable=False, server_default="0"),
    # What the run was created with; never rewritten, but for the plan of a rerun.
    Column("plan", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("idempotency_key", String(255), unique=True),
    Column("request_fingerprint", String(64)),
    # Why it failed.
    Column("error_code", String(40)),
    Column("error_message", Text),
    Column("failed_stage_run_id", Id),
    # Length of its event history.
    Column("event_sequence", Integer, nullable=False, server_default="0"),
    Column("parent_run_id", Id),
    Column("parent_stage_run_id", Id),
    Column("forked_from", Id),
    Column("deadline_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    CheckConstraint(_one_of("status", _RUN_STATUSES), name="status"),
    CheckConstraint("status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED') OR completed_at IS NOT NULL", name="ended"),
    CheckConstraint("status <> 'COMPLETED' OR output_group IS NOT NULL", name="output"),
    CheckConstraint("status <> 'FAILED' OR error_code IS NOT NULL", name="error"),
    CheckConstraint("remaining >= 0", name="remaining"),
    _partial_index(
        "ix_workflow_runs_live_children",
        "parent_run_id",
        where="parent_run_id IS NOT NULL AND status IN ('PENDING', 'RUNNING')",
    ),
    _partial_index(
        "ix_workflow_runs_deadline", "deadline_at", where="deadline_at IS NOT NULL AND status IN ('PENDING', 'RUNNING')"
    ),
    Index("ix_workflow_runs_workflow_id_status_id", "workflow_id", "status", "id"),
    Index("ix_workflow_runs_status_id", "status", "id"),
    Index("ix_workflow_runs_status_completed_at", "status", "completed_at"),
    Index("ix_workflow_runs_parent_run_id", "parent_run_id"),
)

stages = Table(
    "workflow_stages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey("workflow_runs.id", ondelete="CASCADE"), nullable=False),
    Column("stage_id", Label(100), nullable=False),
    Column("stage_name", Text, nullable=False),
    # 1-based position over the whole workflow; the group; the group that its input comes from.
    Column("stage_number", Integer, nullable=False),
    Column("execution_group", Integer, nullable=False),
    Column("input_group", Integer, nullable=False),
    # Comma-separated ids of earlier stages whose outputs the claim brings along, besides the input group's.
    Column("dependencies", Text, nullable=False, server_default=""),
    Column("generation", Integer, nullable=False),
    # The generation that replaced this row; NULL for live rows.
    Column("superseded_by", Integer),
    Column("status", String(16), nullable=False),
    # Claims for execution so far, those of them that vanished, and their budgets.
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    # Attempts that ended with RetryAfter: they have a budget of their own.
    Column("postponements", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column("max_crashes", Integer, nullable=False),
    # Ownership: grows with every claim and every forced end; every finishing write names it.
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("lease_id", String(36)),
    Column("lease_until", BigInteger),
    Column("worker_id", Text),
    # Dispatch: when it may be claimed, where hints go, and what is known of them.
    Column("available_at", BigInteger, nullable=False),
    Column("queue", Name, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("dispatch_priority", Integer, nullable=False),
    Column("dispatched_at", BigInteger, nullable=False),
    Column("dispatch_number", Integer, nullable=False, server_default="1"),
    # How often a lost hint was sent again since the last hint with a cause of its own.
    Column("redispatches", Integer, nullable=False, server_default="0"),
    Column("claimed_dispatch_at", BigInteger),
    Column("claimed_at", BigInteger),
    Column("queue_timeout_at", BigInteger),
    # Since when workers have been releasing it because their definitions do not fit.
    Column("mismatch_since", BigInteger),
    # Suspension: the kind of the wait (``definition.waits``) and its state.
    Column("suspended_on", String(8)),
    Column("suspended_state", Text),
    Column("suspended_metadata", Text),
    Column("suspended_at", BigInteger),
    Column("next_poll_at", BigInteger),
    Column("poll_interval_ms", BigInteger),
    Column("max_wait_until", BigInteger),
    Column("polls", Integer, nullable=False, server_default="0"),
    Column("poll_failures", Integer, nullable=False, server_default="0"),
    Column("poll_crashes", Integer, nullable=False, server_default="0"),
    # When the last poll was asked for, once max_wait had passed.
    Column("final_poll_at", BigInteger),
    # Its ``on_cancel`` is to be called from then on, and how often that was tried.
    Column("cleanup_due_at", BigInteger),
    Column("cleanup_attempts", Integer, nullable=False, server_default="0"),
    # Counts wake-ups; one that arrives while the body runs is noticed when it suspends.
    Column("wake_sequence", Integer, nullable=False, server_default="0"),
    # Outcome.
    # No foreign key: deleting an output would have to look for stage runs by it, which nothing else needs to do.
    Column("output_id", Id),
    # In a fork: the stage run that produced the output.
    Column("shared_from", Id),
    Column("cost_nanos", BigInteger, nullable=False, server_default="0"),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("metrics", Text, nullable=False, server_default="{}"),
    Column("error_code", String(40)),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("error_traceback", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    CheckConstraint(_one_of("status", [status.value for status in StageStatus]), name="status"),
    CheckConstraint("(lease_id IS NULL) = (lease_until IS NULL)", name="lease"),
    CheckConstraint("status <> 'RUNNING' OR lease_id IS NOT NULL", name="running"),
    CheckConstraint("status IN ('RUNNING', 'SUSPENDED') OR lease_id IS NULL", name="unleased"),
    CheckConstraint("status <> 'SUSPENDED' OR next_poll_at IS NOT NULL", name="suspended"),
    CheckConstraint("status <> 'COMPLETED' OR output_id IS NOT NULL", name="completed"),
    CheckConstraint("status <> 'FAILED' OR error_code IS NOT NULL", name="failed"),
    CheckConstraint(f"NOT ({_one_of('status', _TERMINAL_STAGES)}) OR completed_at IS NOT NULL", name="ended"),
    _partial_index("uq_workflow_stages_live", "run_id", "stage_id", where="superseded_by IS NULL", unique=True),
    Index("ix_workflow_stages_run_id_execution_group", "run_id", "execution_group"),
    _partial_index("ix_workflow_stages_waiting", "queue", "dispatch_priority", "dispatched_at", where=_WAITING),
    _partial_index("ix_workflow_stages_lease_until", "lease_until", where="lease_id IS NOT NULL"),
    # The watermark of lost messages is read from the recent claims.
    _partial_index("ix_workflow_stages_claimed_at", "claimed_at", where="claimed_dispatch_at IS NOT NULL"),
    _partial_index("ix_workflow_stages_shared_output_id", "output_id", where="shared_from IS NOT NULL"),
    _partial_index("ix_workflow_stages_cleanup_due_at", "cleanup_due_at", where="cleanup_due_at IS NOT NULL"),
    _partial_index("ix_workflow_stages_max_wait_until", "max_wait_until", where="status = 'SUSPENDED'"),
    _partial_index(
        "ix_workflow_stages_queue_timeout_at",
        "queue_timeout_at",
        where="queue_timeout_at IS NOT NULL AND status = 'PENDING'",
    ),
)

outputs = Table(
    "workflow_outputs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, nullable=False, index=True),
    Column("stage_id", Label(100), nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

attempts = Table(
    "workflow_attempts",
    metadata,
    Column("stage_run_id", Id, ForeignKey("workflow_stages.id", ondelete="CASCADE"), primary_key=True),
    Column("fence", BigInteger, primary_key=True),
    # EXECUTE or POLL.
    Column("kind", String(8), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease_id", String(36), nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    # How it ended: a name of store.records.AttemptOutcome; NULL while it is under way.
    Column("outcome", String(16)),
    Column("error_code", String(40)),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("error_traceback", Text),
    # What this claim has cost, accepted or not; NULL until that is reported.
    Column("cost_nanos", BigInteger),
    Column("tokens", BigInteger),
    _partial_index("ix_workflow_attempts_worker_id", "worker_id", where="outcome IS NULL"),
)

events = Table(
    "workflow_events",
    metadata,
    Column("run_id", Id, ForeignKey("workflow_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("type", String(40), nullable=False),
    Column("stage_id", Label(100)),
    Column("payload", Text, nullable=False, server_default="{}"),
    Column("created_at", BigInteger, nullable=False),
)

logs = Table(
    "workflow_logs",
    metadata,
    Column("stage_run_id", Id, ForeignKey("workflow_stages.id", ondelete="CASCADE"), primary_key=True),
    Column("fence", BigInteger, primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("run_id", Id, nullable=False, index=True),
    Column("stage_id", Label(100), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("level", String(10), nullable=False),
    Column("message", Text, nullable=False),
    Column("fields", Text, nullable=False, server_default="{}"),
    Column("created_at", BigInteger, nullable=False),
)

artifacts = Table(
    "workflow_artifacts",
    metadata,
    Column("run_id", Id, ForeignKey("workflow_runs.id", ondelete="CASCADE"), primary_key=True),
    # The stage that owns the key, or "" for the scope that the run's stages share.
    Column("scope", Label(100), primary_key=True),
    Column("key", String(512), primary_key=True),
    Column("payload", Text, nullable=False),
    Column("stage_run_id", Id, nullable=False, index=True),
    Column("fence", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

run_metadata = Table(
    "workflow_run_metadata",
    metadata,
    Column("run_id", Id, ForeignKey("workflow_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    # The JSON text of a scalar; longer and nested values are kept in workflow_runs.metadata only.
    Column("value", String(255), nullable=False),
    Index("ix_workflow_run_metadata_key_value", "key", "value"),
)

run_annotations = Table(
    "workflow_annotations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey("workflow_runs.id", ondelete="CASCADE"), nullable=False),
    Column("key", Name, nullable=False),
    Column("value", Text, nullable=False),
    Column("actor", Name, nullable=False),
    Column("stage_id", Label(100)),
    Column("attempt", Integer),
    Column("generation", Integer, nullable=False),
    Column("idempotency_key", String(255)),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("run_id", "idempotency_key"),
    Index("ix_workflow_annotations_run_id_key", "run_id", "key"),
)

controls = Table(
    "workflow_controls",
    metadata,
    Column("workflow_id", Name, primary_key=True),
    Column("paused_at", BigInteger, nullable=False),
)

ticks = Table(
    "workflow_ticks",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("last_at", BigInteger, nullable=False),
    Column("reap_after", BigInteger, nullable=False),
)
