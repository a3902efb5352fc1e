"""Alembic's entry: applies revisions over the connection that ``store.schema.revisions`` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from workflow_engine.store.schema.revisions import MIGRATION_OPTIONS

context.configure(connection=context.config.attributes["connection"], **MIGRATION_OPTIONS)
context.run_migrations()
