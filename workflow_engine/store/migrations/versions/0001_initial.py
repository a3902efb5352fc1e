"""The initial schema; written by scripts/write_initial_revision.py."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: The authority's clock, in milliseconds. SQLite has it from each connection (store/connection/database.py).
_WORKFLOW_NOW = """
CREATE FUNCTION workflow_now() RETURNS bigint LANGUAGE sql VOLATILE
AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint'
"""
_HAS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
#: Large JSON texts that are written once: lz4 compresses them several times faster than the default.
_LARGE = (
    ("workflow_runs", "input"),
    ("workflow_outputs", "payload"),
    ("workflow_artifacts", "payload"),
)


def upgrade() -> None:
    is_postgres = op.get_bind().dialect.name == "postgresql"
    if is_postgres:
        op.execute(_WORKFLOW_NOW)
    _create_workflow_controls()
    _create_workflow_outputs()
    _create_workflow_runs()
    _create_workflow_ticks()
    _create_workflow_annotations()
    _create_workflow_artifacts()
    _create_workflow_events()
    _create_workflow_run_metadata()
    _create_workflow_stages()
    _create_workflow_attempts()
    _create_workflow_logs()
    if is_postgres and op.get_bind().scalar(sa.text(_HAS_LZ4)):
        for table, column in _LARGE:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION lz4")


def _create_workflow_controls() -> None:
    op.create_table(
        "workflow_controls",
        sa.Column("workflow_id", sa.String(length=200), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id", name=op.f("pk_workflow_controls")),
    )


def _create_workflow_outputs() -> None:
    op.create_table(
        "workflow_outputs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("stage_id", sa.String(length=100), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_outputs")),
    )
    op.create_index(op.f("ix_workflow_outputs_run_id"), "workflow_outputs", ["run_id"], unique=False)


def _create_workflow_runs() -> None:
    op.create_table(
        "workflow_runs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("workflow_id", sa.String(length=200), nullable=False),
        sa.Column("workflow_name", sa.Text(), nullable=False),
        sa.Column("workflow_type", sa.Text(), nullable=True),
        sa.Column("workflow_version", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("current_group", sa.Integer(), nullable=False),
        sa.Column("input_group", sa.Integer(), server_default="0", nullable=False),
        sa.Column("output_group", sa.Integer(), nullable=True),
        sa.Column("remaining", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), server_default="{}", nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("request_fingerprint", sa.String(length=64), nullable=True),
        sa.Column("error_code", sa.String(length=40), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("failed_stage_run_id", sa.String(length=36), nullable=True),
        sa.Column("event_sequence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("parent_run_id", sa.String(length=36), nullable=True),
        sa.Column("parent_stage_run_id", sa.String(length=36), nullable=True),
        sa.Column("forked_from", sa.String(length=36), nullable=True),
        sa.Column("deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("status <> 'COMPLETED' OR output_group IS NOT NULL", name=op.f("ck_workflow_runs_output")),
        sa.CheckConstraint("status <> 'FAILED' OR error_code IS NOT NULL", name=op.f("ck_workflow_runs_error")),
        sa.CheckConstraint(
            "status IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')", name=op.f("ck_workflow_runs_status")
        ),
        sa.CheckConstraint(
            "status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED') OR completed_at IS NOT NULL",
            name=op.f("ck_workflow_runs_ended"),
        ),
        sa.CheckConstraint("remaining >= 0", name=op.f("ck_workflow_runs_remaining")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_runs")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_workflow_runs_idempotency_key")),
    )
    op.create_index(
        "ix_workflow_runs_deadline",
        "workflow_runs",
        ["deadline_at"],
        unique=False,
        postgresql_where=sa.text("deadline_at IS NOT NULL AND status IN ('PENDING', 'RUNNING')"),
        sqlite_where=sa.text("deadline_at IS NOT NULL AND status IN ('PENDING', 'RUNNING')"),
    )
    op.create_index(
        "ix_workflow_runs_live_children",
        "workflow_runs",
        ["parent_run_id"],
        unique=False,
        postgresql_where=sa.text("parent_run_id IS NOT NULL AND status IN ('PENDING', 'RUNNING')"),
        sqlite_where=sa.text("parent_run_id IS NOT NULL AND status IN ('PENDING', 'RUNNING')"),
    )
    op.create_index("ix_workflow_runs_parent_run_id", "workflow_runs", ["parent_run_id"], unique=False)
    op.create_index("ix_workflow_runs_status_completed_at", "workflow_runs", ["status", "completed_at"], unique=False)
    op.create_index("ix_workflow_runs_status_id", "workflow_runs", ["status", "id"], unique=False)
    op.create_index(
        "ix_workflow_runs_workflow_id_status_id", "workflow_runs", ["workflow_id", "status", "id"], unique=False
    )


def _create_workflow_ticks() -> None:
    op.create_table(
        "workflow_ticks",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("reap_after", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workflow_ticks")),
    )


def _create_workflow_annotations() -> None:
    op.create_table(
        "workflow_annotations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("stage_id", sa.String(length=100), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["workflow_runs.id"],
            name=op.f("fk_workflow_annotations_run_id_workflow_runs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_annotations")),
        sa.UniqueConstraint("run_id", "idempotency_key", name=op.f("uq_workflow_annotations_run_id_idempotency_key")),
    )
    op.create_index("ix_workflow_annotations_run_id_key", "workflow_annotations", ["run_id", "key"], unique=False)


def _create_workflow_artifacts() -> None:
    op.create_table(
        "workflow_artifacts",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("scope", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("stage_run_id", sa.String(length=36), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["workflow_runs.id"],
            name=op.f("fk_workflow_artifacts_run_id_workflow_runs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "scope", "key", name=op.f("pk_workflow_artifacts")),
    )


def _create_workflow_events() -> None:
    op.create_table(
        "workflow_events",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("stage_id", sa.String(length=100), nullable=True),
        sa.Column("payload", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["workflow_runs.id"], name=op.f("fk_workflow_events_run_id_workflow_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "sequence", name=op.f("pk_workflow_events")),
    )


def _create_workflow_run_metadata() -> None:
    op.create_table(
        "workflow_run_metadata",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["workflow_runs.id"],
            name=op.f("fk_workflow_run_metadata_run_id_workflow_runs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_workflow_run_metadata")),
    )
    op.create_index("ix_workflow_run_metadata_key_value", "workflow_run_metadata", ["key", "value"], unique=False)


def _create_workflow_stages() -> None:
    op.create_table(
        "workflow_stages",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("stage_id", sa.String(length=100), nullable=False),
        sa.Column("stage_name", sa.Text(), nullable=False),
        sa.Column("stage_number", sa.Integer(), nullable=False),
        sa.Column("execution_group", sa.Integer(), nullable=False),
        sa.Column("input_group", sa.Integer(), nullable=False),
        sa.Column("dependencies", sa.Text(), server_default="", nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("superseded_by", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("max_crashes", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_id", sa.String(length=36), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("available_at", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.String(length=200), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("dispatch_priority", sa.Integer(), nullable=False),
        sa.Column("dispatched_at", sa.BigInteger(), nullable=False),
        sa.Column("dispatch_number", sa.Integer(), server_default="1", nullable=False),
        sa.Column("redispatches", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_dispatch_at", sa.BigInteger(), nullable=True),
        sa.Column("claimed_at", sa.BigInteger(), nullable=True),
        sa.Column("queue_timeout_at", sa.BigInteger(), nullable=True),
        sa.Column("mismatch_since", sa.BigInteger(), nullable=True),
        sa.Column("suspended_on", sa.String(length=8), nullable=True),
        sa.Column("suspended_state", sa.Text(), nullable=True),
        sa.Column("suspended_metadata", sa.Text(), nullable=True),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("next_poll_at", sa.BigInteger(), nullable=True),
        sa.Column("poll_interval_ms", sa.BigInteger(), nullable=True),
        sa.Column("max_wait_until", sa.BigInteger(), nullable=True),
        sa.Column("polls", sa.Integer(), server_default="0", nullable=False),
        sa.Column("poll_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("poll_crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cleanup_due_at", sa.BigInteger(), nullable=True),
        sa.Column("cleanup_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wake_sequence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("output_id", sa.String(length=36), nullable=True),
        sa.Column("shared_from", sa.String(length=36), nullable=True),
        sa.Column("cost_nanos", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("metrics", sa.Text(), server_default="{}", nullable=False),
        sa.Column("error_code", sa.String(length=40), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "NOT (status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED')) OR completed_at IS NOT NULL",
            name=op.f("ck_workflow_stages_ended"),
        ),
        sa.CheckConstraint("status <> 'COMPLETED' OR output_id IS NOT NULL", name=op.f("ck_workflow_stages_completed")),
        sa.CheckConstraint("status <> 'FAILED' OR error_code IS NOT NULL", name=op.f("ck_workflow_stages_failed")),
        sa.CheckConstraint("status <> 'RUNNING' OR lease_id IS NOT NULL", name=op.f("ck_workflow_stages_running")),
        sa.CheckConstraint(
            "status <> 'SUSPENDED' OR next_poll_at IS NOT NULL", name=op.f("ck_workflow_stages_suspended")
        ),
        sa.CheckConstraint(
            "status IN ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED')",
            name=op.f("ck_workflow_stages_status"),
        ),
        sa.CheckConstraint(
            "status IN ('RUNNING', 'SUSPENDED') OR lease_id IS NULL", name=op.f("ck_workflow_stages_unleased")
        ),
        sa.CheckConstraint("(lease_id IS NULL) = (lease_until IS NULL)", name=op.f("ck_workflow_stages_lease")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["workflow_runs.id"], name=op.f("fk_workflow_stages_run_id_workflow_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_stages")),
    )
    op.create_index(
        "ix_workflow_stages_claimed_at",
        "workflow_stages",
        ["claimed_at"],
        unique=False,
        postgresql_where=sa.text("claimed_dispatch_at IS NOT NULL"),
        sqlite_where=sa.text("claimed_dispatch_at IS NOT NULL"),
    )
    op.create_index(
        "ix_workflow_stages_cleanup_due_at",
        "workflow_stages",
        ["cleanup_due_at"],
        unique=False,
        postgresql_where=sa.text("cleanup_due_at IS NOT NULL"),
        sqlite_where=sa.text("cleanup_due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_workflow_stages_lease_until",
        "workflow_stages",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("lease_id IS NOT NULL"),
        sqlite_where=sa.text("lease_id IS NOT NULL"),
    )
    op.create_index(
        "ix_workflow_stages_max_wait_until",
        "workflow_stages",
        ["max_wait_until"],
        unique=False,
        postgresql_where=sa.text("status = 'SUSPENDED'"),
        sqlite_where=sa.text("status = 'SUSPENDED'"),
    )
    op.create_index(
        "ix_workflow_stages_queue_timeout_at",
        "workflow_stages",
        ["queue_timeout_at"],
        unique=False,
        postgresql_where=sa.text("queue_timeout_at IS NOT NULL AND status = 'PENDING'"),
        sqlite_where=sa.text("queue_timeout_at IS NOT NULL AND status = 'PENDING'"),
    )
    op.create_index(
        "ix_workflow_stages_run_id_execution_group", "workflow_stages", ["run_id", "execution_group"], unique=False
    )
    op.create_index(
        "ix_workflow_stages_shared_output_id",
        "workflow_stages",
        ["output_id"],
        unique=False,
        postgresql_where=sa.text("shared_from IS NOT NULL"),
        sqlite_where=sa.text("shared_from IS NOT NULL"),
    )
    op.create_index(
        "ix_workflow_stages_waiting",
        "workflow_stages",
        ["queue", "dispatch_priority", "dispatched_at"],
        unique=False,
        postgresql_where=sa.text("superseded_by IS NULL AND status IN ('PENDING', 'SUSPENDED')"),
        sqlite_where=sa.text("superseded_by IS NULL AND status IN ('PENDING', 'SUSPENDED')"),
    )
    op.create_index(
        "uq_workflow_stages_live",
        "workflow_stages",
        ["run_id", "stage_id"],
        unique=True,
        postgresql_where=sa.text("superseded_by IS NULL"),
        sqlite_where=sa.text("superseded_by IS NULL"),
    )


def _create_workflow_attempts() -> None:
    op.create_table(
        "workflow_attempts",
        sa.Column("stage_run_id", sa.String(length=36), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_id", sa.String(length=36), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("error_code", sa.String(length=40), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["stage_run_id"],
            ["workflow_stages.id"],
            name=op.f("fk_workflow_attempts_stage_run_id_workflow_stages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "fence", name=op.f("pk_workflow_attempts")),
    )
    op.create_index(
        "ix_workflow_attempts_worker_id",
        "workflow_attempts",
        ["worker_id"],
        unique=False,
        postgresql_where=sa.text("outcome IS NULL"),
        sqlite_where=sa.text("outcome IS NULL"),
    )


def _create_workflow_logs() -> None:
    op.create_table(
        "workflow_logs",
        sa.Column("stage_run_id", sa.String(length=36), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("stage_id", sa.String(length=100), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("level", sa.String(length=10), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["stage_run_id"],
            ["workflow_stages.id"],
            name=op.f("fk_workflow_logs_stage_run_id_workflow_stages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("stage_run_id", "fence", "line", name=op.f("pk_workflow_logs")),
    )
    op.create_index(op.f("ix_workflow_logs_run_id"), "workflow_logs", ["run_id"], unique=False)
