"""The engine: one file for each command, over the store. It knows neither Celery nor SQLAlchemy.

Every command is one unit of work that is durable when it returns, and dispatches hints after its commit.
"""

from __future__ import annotations

from workflow_engine.engine.commands.answer_callback import StageKey, complete_stage, fail_stage
from workflow_engine.engine.commands.callback_tokens import make_token, read_token
from workflow_engine.engine.commands.cancel_run import cancel_run
from workflow_engine.engine.commands.create_run import (
    CreatedRun,
    CreateRun,
    create_run,
)
from workflow_engine.engine.commands.fork_run import fork_run
from workflow_engine.engine.commands.pause_run import pause_run, pause_workflow, resume_run, resume_workflow
from workflow_engine.engine.commands.redispatch import redispatch_due, redispatch_run
from workflow_engine.engine.commands.rerun_run import rerun_run
from workflow_engine.engine.data.run_result import RunResult, read_run_result
from workflow_engine.engine.decisions.failures import find_ending_signal
from workflow_engine.engine.execution.execute_stage import Performed, execute_stage
from workflow_engine.engine.process.dispatcher import Dispatcher
from workflow_engine.engine.process.engine import Engine, new_worker_id, worker_id_prefix
from workflow_engine.engine.transitions.release import release_worker
from workflow_engine.engine.transitions.unit_of_work import wake, with_stage_run
from workflow_engine.engine.upkeep.prune import prune
from workflow_engine.engine.upkeep.reap import reap_expired, reap_worker
from workflow_engine.engine.upkeep.sweep import SweepReport, sweep

__all__ = [
    "CreateRun",
    "CreatedRun",
    "Dispatcher",
    "Engine",
    "Performed",
    "RunResult",
    "StageKey",
    "SweepReport",
    "cancel_run",
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
