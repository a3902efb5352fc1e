"""What a campaign looks like with one safeguard less: patches for the worker processes of a test, never for users.

Each must make a campaign fail; one that does not would mean that the safeguard, or the campaign, is for show.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from workflow_engine.engine.transitions.group_progress import fail_stage_run
from workflow_engine.store.moves import postgres as moves_postgres

if TYPE_CHECKING:
    from collections.abc import Callable


def remove_fence_check() -> None:
    """A finish is accepted from anyone while the stage runs, whoever claimed it last."""

    def is_ours(run: Any, stage: Any, _claim: Any) -> bool:
        return bool(stage.lease_id is not None and stage.is_live and run.is_live)

    replace("workflow_engine.engine.transitions.finish", "_is_ours", is_ours)
    edit_statement("_COMPLETE", "stage_row.fence = :fence AND", "")


def remove_heartbeat() -> None:
    """Nobody renews a lease."""
    replace("workflow_engine.engine.process.lease_keeper", "renew_leases", lambda _database, held, _lease_ms: set(held))


def remove_reaping() -> None:
    """Expired leases stay expired."""
    replace("workflow_engine.engine.upkeep.sweep", "reap_expired", lambda _engine: 0)


def remove_redispatch() -> None:
    """Lost messages stay lost."""
    replace("workflow_engine.engine.upkeep.sweep", "redispatch_due", lambda _engine: 0)


def remove_locked_columns() -> None:
    """A completion takes the run's columns as they were before it waited for the run.

    The transactions that record failures are stretched, so that completions do wait for them.
    """
    before = "EXISTS (SELECT 1 FROM workflow_runs b WHERE b.id = :run_id AND b.remaining = 1 AND b.failed > 0)"
    edit_statement("_COMPLETE", "(remaining = 1 AND failed > 0)", before)

    def fail_slowly(*arguments: Any, **options: Any) -> None:
        fail_stage_run(*arguments, **options)
        threading.Event().wait(0.05)

    replace("workflow_engine.engine.transitions.finish", "fail_stage_run", fail_slowly)


def remove_status_guard() -> None:
    """A claim takes what its message names, whether it waits or is being executed."""
    edit_statement("_CLAIM", "stage_row.status IN ('PENDING')\n", "stage_row.status IN ('PENDING', 'RUNNING')\n")
    edit_statement("_CLAIM", "stage_row.status IN ('PENDING', 'SUSPENDED') AND stage_row.lease_id IS NULL AND ", "")
    edit_statement("_CLAIM", "WHEN (stage_row.status IN ('PENDING'))", "WHEN true")


def remove_message_guards() -> None:
    """Malformed entries reach kombu."""
    replace("workflow_engine.worker.wire.serving_transports", "find_entry_problem", lambda _entry: None)
    replace("workflow_engine.worker.wire.serving_transports", "find_envelope_problem", lambda _message: None)


def replace(module: str, name: str, patch: object) -> None:
    """Replace what a module calls; it must be there, or the ablation is for nothing."""
    found = import_module(module)
    getattr(found, name)
    setattr(found, name, patch)


def edit_statement(name: str, old: str, new: str) -> None:
    statement = str(getattr(moves_postgres, name).text)
    if statement.count(old) != 1:
        raise AssertionError(f"{name} does not hold {old!r} once: the ablation has to follow the code")
    setattr(moves_postgres, name, text(statement.replace(old, new)))


ABLATIONS: dict[str, Callable[[], None]] = {
    "fence": remove_fence_check,
    "heartbeat": remove_heartbeat,
    "reap": remove_reaping,
    "redispatch": remove_redispatch,
    "status": remove_status_guard,
    "locked columns": remove_locked_columns,
    "messages": remove_message_guards,
}
