"""What attempts cost and why they failed, postponements, last polls, artifacts by stage run; only expands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: Software that knows revision 0001 only works on beside this one.
expands_only = True

#: VOLATILE, so that a statement which waited for a lock asks what is true after the wait, not in its snapshot.
#: Claims share a lock until their commit; a pause takes it alone, so that none is under way once it is durable.
_IS_PAUSED = """
CREATE FUNCTION workflow_is_paused(id text) RETURNS boolean LANGUAGE plpgsql VOLATILE
AS 'BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended(''workflow_engine pause '' || id, 0));
  RETURN EXISTS (SELECT 1 FROM workflow_controls c WHERE c.workflow_id = id);
END'
"""


def upgrade() -> None:
    # First, because it may take long: columns lock their table for everybody until the end of the transaction.
    op.create_index("ix_workflow_artifacts_stage_run_id", "workflow_artifacts", ["stage_run_id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_IS_PAUSED)
    op.add_column("workflow_attempts", sa.Column("error_traceback", sa.Text(), nullable=True))
    op.add_column("workflow_attempts", sa.Column("cost_nanos", sa.BigInteger(), nullable=True))
    op.add_column("workflow_attempts", sa.Column("tokens", sa.BigInteger(), nullable=True))
    op.add_column("workflow_stages", sa.Column("postponements", sa.Integer(), server_default="0", nullable=False))
    op.add_column("workflow_stages", sa.Column("final_poll_at", sa.BigInteger(), nullable=True))
