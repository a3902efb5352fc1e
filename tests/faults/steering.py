"""What people do while things break: rerun, cancel, pause. All of it leaves the outputs of a quiet run."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from workflow_engine.engine import Engine, cancel_run, pause_run, rerun_run, resume_run
from workflow_engine.errors import RerunRefusedError, RunStateError

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence


class Steering:
    """Gives commands to runs chosen at random."""

    def __init__(self, engine: Engine, random: random.Random) -> None:
        self._engine = engine
        self._random = random

    def steer(self, run_ids: Sequence[str]) -> str | None:
        """Give one command to one run; return its name, or None when the run was in no state for it."""
        command = self._random.choice([self._rerun, self._cancel_and_rerun, self._pause_and_resume])
        with suppress(RunStateError, RerunRefusedError):
            command(self._random.choice(run_ids))
            return _NAMES[command.__name__]
        return None

    def _rerun(self, run_id: str) -> None:
        rerun_run(self._engine, run_id, from_stage=self._random.choice(self._stages(run_id)))

    def _cancel_and_rerun(self, run_id: str) -> None:
        cancel_run(self._engine, run_id)
        rerun_run(self._engine, run_id, from_stage=self._stages(run_id)[0])

    def _pause_and_resume(self, run_id: str) -> None:
        pause_run(self._engine, run_id)
        self._engine.clock.sleep(timedelta(seconds=self._random.uniform(0, 0.5)))
        with suppress(RunStateError):  # what was under way went on, and ended the run
            resume_run(self._engine, run_id)

    def _stages(self, run_id: str) -> list[str]:
        query = "SELECT workflow_id FROM workflow_runs WHERE id = %(id)s"
        found = self._engine.database.read(lambda tx: tx.exec_driver_sql(query, {"id": run_id}).scalar_one())
        return list(self._engine.registry.get(found).stages)


_NAMES = {"_rerun": "rerun", "_cancel_and_rerun": "cancel, then rerun", "_pause_and_resume": "pause, then resume"}
