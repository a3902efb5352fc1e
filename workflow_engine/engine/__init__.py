"""The engine: one file for each command, over the store. It knows neither Celery nor SQLAlchemy.

Every command is one unit of work that is durable when it returns, and dispatches hints after its commit.
"""

from __future__ import annotations

from workflow_engine.engine.cancel_run import cancel_run
from workflow_engine.engine.core import Engine, new_worker_id, worker_id_prefix
from workflow_engine.engine.create_run import (
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    CreatedRun,
    CreateRun,
    check_priority,
    create_run,
)
from workflow_engine.engine.deliver import StageKey, complete_stage, fail_stage
from workflow_engine.engine.execute_stage import Performed, execute_stage
from workflow_engine.engine.failures import find_ending_signal
from workflow_engine.engine.fork_run import fork_run
from workflow_engine.engine.pause_run import pause_run, pause_workflow, resume_run, resume_workflow
from workflow_engine.engine.ports import Dispatcher
from workflow_engine.engine.prune import prune
from workflow_engine.engine.reap import reap_expired, reap_worker
from workflow_engine.engine.redispatch import redispatch_due, redispatch_run
from workflow_engine.engine.release import release_worker
from workflow_engine.engine.rerun_run import rerun_run
from workflow_engine.engine.run_output import RunResult, read_run_result
from workflow_engine.engine.sweep import SweepReport, sweep
from workflow_engine.engine.tokens import make_token, read_token
from workflow_engine.engine.units import wake, with_stage_run

__all__ = [
    "DEFAULT_PRIORITY",
    "HIGHEST_PRIORITY",
    "LOWEST_PRIORITY",
    "CreateRun",
    "CreatedRun",
    "Dispatcher",
    "Engine",
    "Performed",
    "RunResult",
    "StageKey",
    "SweepReport",
    "cancel_run",
    "check_priority",
    "complete_stage",
    "create_run",
    "execute_stage",
    "fail_stage",
    "find_ending_signal",
    "fork_run",
    "make_token",
    "new_worker_id",
    "pause_run",
    "pause_workflow",
    "prune",
    "read_run_result",
    "read_token",
    "reap_expired",
    "reap_worker",
    "redispatch_due",
    "redispatch_run",
    "release_worker",
    "rerun_run",
    "resume_run",
    "resume_workflow",
    "sweep",
    "wake",
    "with_stage_run",
    "worker_id_prefix",
]
