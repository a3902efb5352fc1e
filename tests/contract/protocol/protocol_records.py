"""A world, the model of it, and their comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from protocol_model import Model
from protocol_play import PLAY
from protocol_world import World

from workflow_engine.store.schema.tables import runs, stages

if TYPE_CHECKING:
    from protocol_things import RunModel, StageModel
    from protocol_world import FaultyDatabase

_RUN_COLUMNS = (runs.c.id, runs.c.status, runs.c.generation, runs.c.current_group, runs.c.paused_at)
_STAGE_COLUMNS = (
    "id", "run_id", "stage_id", "generation", "status", "superseded_by", "attempt", "crashes", "poll_crashes", "fence",
    "lease_until", "next_poll_at", "available_at", "dispatch_number",
)  # fmt: skip
_STAGE_ROWS = sa.select(*(stages.c[name] for name in _STAGE_COLUMNS))


class Records:
    """Compares, after every step, what is recorded with what should be."""

    database: ClassVar[FaultyDatabase]

    def __init__(self) -> None:
        self.world = World(self.database)
        self.world.open()
        self.model = Model()
        self.model.now = self.database.present
        self.stage_runs: dict[str, tuple[RunModel, StageModel]] = {}
        self.dispatched: dict[str, int] = {}
        self.nonces = 0
        #: False from the moment that a check fails, so that the end is not checked on top.
        self.is_sound = True

    def records_agree(self) -> None:
        self.is_sound = False
        assert self.world.violations() == {}
        assert self._rows() == self._expected_rows()
        assert PLAY.surprises == []
        assert len(PLAY.calls) == len(set(PLAY.calls)), "user code was called twice under one fence"
        self.is_sound = True

    def _rows(self) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        run_rows = self.database.read(lambda tx: tx.execute(sa.select(*_RUN_COLUMNS)).all())
        for row in run_rows:
            found[row.id] = (row.status, row.generation, row.current_group, row.paused_at is not None)
        for row in self.database.read(lambda tx: tx.execute(_STAGE_ROWS).all()):
            self._bind(row)
            found[row.run_id, row.stage_id, row.generation] = (
                row.status, row.superseded_by is None, row.attempt, row.crashes, row.poll_crashes, row.fence,
                row.lease_until, row.next_poll_at, row.available_at if row.status == "PENDING" else None,
            )  # fmt: skip
        return found

    def _expected_rows(self) -> dict[Any, Any]:
        expected: dict[Any, Any] = {}
        for run_id, run in self.model.runs.items():
            expected[run_id] = (run.status, run.generation, run.group, run.is_paused)
            for stage in run.stages:
                expected[run_id, stage.stage_id, stage.generation] = (
                    stage.status, stage.is_live, stage.attempt, stage.crashes, stage.poll_crashes, stage.fence,
                    stage.lease_until, stage.next_poll_at, stage.available_at if stage.status == "PENDING" else None,
                )  # fmt: skip
        return expected

    def _bind(self, row: Any) -> None:
        self.dispatched[row.id] = row.dispatch_number
        if row.id not in self.stage_runs:
            run = self.model.runs.get(row.run_id)
            for stage in run.stages if run else ():
                if (stage.stage_id, stage.generation) == (row.stage_id, row.generation):
                    self.stage_runs[row.id] = (run, stage)

    def _check_that_due_work_has_messages(self, run: RunModel) -> None:
        self._rows()
        held = run.is_paused or run.workflow_id in self.model.paused_workflows
        for stage_run_id, (owner, stage) in self.stage_runs.items():
            if owner is run and stage.is_live and run.is_live and not held and stage.is_due(self.model.now):
                assert self.world.broker.holds(stage_run_id, self.dispatched[stage_run_id])
