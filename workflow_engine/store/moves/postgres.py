"""PostgreSQL's forms of the two moves that every stage makes, claim and complete: one statement each.

They do what ``claims`` and the arrows do in several, row for row; the contract tests run both. Their text is
composed at import of what must be said once only: statuses are those of the tables of moves (``lifecycle``), a stage
run may be taken by the rule of ``admission``, a claim has the columns of ``claim_columns``, and a new stage run the
fields of ``NewStageRun``. Read the statements from the top:

- ``locked_run`` locks the run row. READ COMMITTED gives its latest version even when it had to wait.
- ``clock`` reads the time after the lock was obtained; ``now()`` would be frozen before the wait.
- ``stage`` is the guarded move of the stage run; everything else hangs on its row, so a guard that fails writes nothing.
- ``verdict`` tells what a completion leads to: the end of the run, the next group, or one active member less. It is
  read from the counter ``remaining`` of the locked row. Counting members instead would use the snapshot from before
  the wait and lose the last member's advance without any error.

A completion that makes the run fail, because a sibling had failed before, is left to the portable form: it is rare,
and its event tells why in words.

**What a statement that waits for a lock may read.** Everything but the columns of the row that it locked is of the
snapshot from before the wait: other tables, sub-selects, EXISTS, and the updated table's own alias, too. PostgreSQL
checks the constraints of the row that it makes from that old version before it notices that the row has changed. So:

- An UPDATE of the run takes every value from ``locked_run``, and sets every column that a CHECK constraint joins with
  one that it sets. Its own alias, ``run_row``, serves to find the row.
- An UPDATE of the stage run reads its own alias, ``stage_row``, for columns that no constraint knows; the constants
  that it sets satisfy every constraint whatever the other columns hold.
- What another table tells is asked after the lock, by a VOLATILE function in ``clock`` (``workflow_is_paused``), or by
  a second statement.
- The claim's sub-select of outputs is the exception. It reads rows that cannot change while the stage run is PENDING
  and live: its group exists because the groups before it had ended, and their stage runs are superseded by a rerun
  only, which wants an ended run, that is one without a stage run to claim.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, String, literal_column, text
from sqlalchemy.dialects import postgresql

from workflow_engine.definition import StoredOutput
from workflow_engine.lifecycle import RunMove, RunStatus, StageMove, StageStatus
from workflow_engine.store.moves.admission import is_due, run_admits, workflow_admits_claims
from workflow_engine.store.moves.claim_columns import claim_columns
from workflow_engine.store.records import Advanced, Claim, ClaimKind, Hint, NewStageRun
from workflow_engine.store.schema.tables import runs, stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection, RowMapping

    from workflow_engine.store.records import ClaimRequest, Report

_DIALECT: Final = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call] # SQLAlchemy's
#: The parts of the statements that have all columns of a table.
_locked_run, _stage, _stage_row = runs.alias("locked_run"), stages.alias("stage"), stages.alias("stage_row")


def _sql(expression: ColumnElement[Any]) -> str:
    """Return the text of an expression, its constants written out."""
    return str(expression.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))


def _is_one_of(column: str, statuses: Iterable[RunStatus | StageStatus]) -> str:
    return _sql(literal_column(column, String).in_(sorted(status.value for status in statuses)))


_CLAIM_COLUMNS: Final = ", ".join(f"{_sql(one)} AS {one.name}" for one in claim_columns(_stage, _locked_run))
_STARTS: Final = _is_one_of("locked_run.status", RunMove.START.sources)
#: The payload of a stage's event.
_WHICH_ATTEMPT: Final = """'{"attempt":' || stage.attempt || '}'"""

_CLAIM = text(f"""
WITH locked_run AS MATERIALIZED (
  SELECT * FROM workflow_runs
  WHERE id = (SELECT run_id FROM workflow_stages WHERE id = :stage_run_id) AND {_sql(run_admits(runs))}
  FOR UPDATE
), clock AS MATERIALIZED (
  -- Nothing where the workflow was paused. From here on a pause waits for the end of this claim.
  SELECT workflow_now() AS now FROM locked_run WHERE {_sql(workflow_admits_claims(_locked_run.c.workflow_id))}
), stage AS (
  -- The stage run is taken for an attempt, if it may be; the portable form takes polls.
  UPDATE workflow_stages stage_row
  SET status = '{StageMove.CLAIM.target}', attempt = stage_row.attempt + 1, fence = stage_row.fence + 1,
      lease_id = :nonce, lease_until = clock.now + :lease_ms, worker_id = :worker_id, claimed_at = clock.now,
      started_at = coalesce(stage_row.started_at, clock.now),
      claimed_dispatch_at = CASE WHEN stage_row.dispatch_number = :dispatch_number THEN stage_row.dispatched_at
                                 ELSE stage_row.claimed_dispatch_at END
  FROM locked_run, clock
  WHERE stage_row.id = :stage_run_id AND stage_row.run_id = locked_run.id
    AND {_is_one_of("stage_row.status", StageMove.CLAIM.sources)}
    AND {_sql(is_due(_stage_row, literal_column("clock.now", BigInteger)))}
  RETURNING stage_row.*
), attempt AS (
  INSERT INTO workflow_attempts (stage_run_id, fence, kind, attempt, lease_id, worker_id, started_at)
  SELECT id, fence, 'EXECUTE', attempt, lease_id, worker_id, claimed_at FROM stage
), run AS (
  -- The first claim starts the run.
  UPDATE workflow_runs run_row
  SET status = '{RunMove.START.target}', started_at = coalesce(locked_run.started_at, clock.now),
      event_sequence = locked_run.event_sequence + CASE WHEN {_STARTS} THEN 2 ELSE 1 END
  FROM locked_run, clock, stage WHERE run_row.id = locked_run.id
), events AS (
  INSERT INTO workflow_events (run_id, sequence, generation, type, stage_id, payload, created_at)
  SELECT locked_run.id, locked_run.event_sequence + 1, locked_run.generation, 'run.started', NULL, '{{}}', clock.now
  FROM locked_run, clock, stage WHERE {_STARTS}
  UNION ALL
  SELECT locked_run.id, locked_run.event_sequence + CASE WHEN {_STARTS} THEN 2 ELSE 1 END, locked_run.generation,
         'stage.started', stage.stage_id, {_WHICH_ATTEMPT}, clock.now
  FROM locked_run, clock, stage
)
SELECT {_CLAIM_COLUMNS},
       (SELECT json_agg(json_build_array(earlier.stage_id, earlier.status, output.payload, earlier.execution_group)
                        ORDER BY earlier.stage_number)
        FROM workflow_stages earlier LEFT JOIN workflow_outputs output ON output.id = earlier.output_id
        WHERE earlier.run_id = stage.run_id AND earlier.superseded_by IS NULL
          AND (earlier.execution_group = stage.input_group
               OR earlier.stage_id = ANY (string_to_array(stage.dependencies, ',')))
       ) AS outputs
FROM stage, locked_run
""")  # noqa: S608 - composed at import, of this package's own tables and rules

#: What the plan says of a new stage run: its columns, and where the statement has their values from.
_PLANNED: Final = {one.name: f"planned.{one.name}" for one in fields(NewStageRun) if one.name != "queue_timeout_ms"}
_PLANNED_TYPES: Final = ", ".join(f"{name} {stages.c[name].type.compile(dialect=_DIALECT)}" for name in _PLANNED)

_COMPLETE = text(f"""
WITH locked_run AS MATERIALIZED (
  SELECT id, generation, status, priority, current_group, input_group, output_group, remaining, failed, event_sequence,
         error_code
  FROM workflow_runs
  WHERE id = :run_id AND {_is_one_of("status", RunMove.COMPLETE.sources)} AND NOT (remaining = 1 AND failed > 0)
  FOR UPDATE
), clock AS MATERIALIZED (
  SELECT workflow_now() AS now FROM locked_run
), stage AS (
  -- The stage run ends, if the lease is still the claimant's.
  UPDATE workflow_stages stage_row
  SET status = '{StageMove.COMPLETE.target}', output_id = :output_id, lease_id = NULL, lease_until = NULL,
      next_poll_at = NULL, completed_at = clock.now, cost_nanos = stage_row.cost_nanos + :cost_nanos,
      tokens = stage_row.tokens + :tokens, metrics = coalesce(:metrics, stage_row.metrics), mismatch_since = NULL,
      error_code = NULL, error_type = NULL, error_message = NULL, error_traceback = NULL
  FROM locked_run, clock
  WHERE stage_row.id = :stage_run_id AND stage_row.fence = :fence AND stage_row.lease_id IS NOT NULL
    AND {_is_one_of("stage_row.status", StageMove.COMPLETE.sources)} AND stage_row.superseded_by IS NULL
  RETURNING stage_row.id, stage_row.stage_id, stage_row.attempt
), output AS (
  INSERT INTO workflow_outputs (id, run_id, stage_id, payload, created_at)
  SELECT :output_id, locked_run.id, stage.stage_id, :payload, clock.now FROM locked_run, clock, stage
), attempt AS (
  UPDATE workflow_attempts attempt_row
  SET ended_at = clock.now, outcome = 'COMPLETED', cost_nanos = :attempt_cost_nanos, tokens = :attempt_tokens
  FROM stage, clock
  WHERE attempt_row.stage_run_id = stage.id AND attempt_row.fence = :fence AND attempt_row.outcome IS NULL
), verdict AS MATERIALIZED (
  -- The last active member ends the run, or lets it advance.
  SELECT locked_run.remaining = 1 AND :next_count = 0 AS completes,
         locked_run.remaining = 1 AND :next_count > 0 AS advances
  FROM locked_run, stage
), run AS (
  UPDATE workflow_runs run_row
  SET remaining = CASE WHEN advances THEN :next_count ELSE locked_run.remaining - 1 END,
      current_group = CASE WHEN advances THEN locked_run.current_group + 1 ELSE locked_run.current_group END,
      input_group = CASE WHEN advances THEN locked_run.current_group ELSE locked_run.input_group END,
      output_group = CASE WHEN completes THEN locked_run.current_group ELSE locked_run.output_group END,
      status = CASE WHEN completes THEN '{RunMove.COMPLETE.target}' ELSE locked_run.status END,
      completed_at = CASE WHEN completes THEN clock.now END, error_code = locked_run.error_code,
      event_sequence = locked_run.event_sequence + CASE WHEN completes THEN 2 ELSE 1 END
  FROM locked_run, clock, verdict WHERE run_row.id = locked_run.id
  RETURNING run_row.status
), events AS (
  INSERT INTO workflow_events (run_id, sequence, generation, type, stage_id, payload, created_at)
  SELECT locked_run.id, event_sequence + 1, generation, 'stage.completed', stage.stage_id, {_WHICH_ATTEMPT}, clock.now
  FROM locked_run, clock, stage
  UNION ALL
  SELECT locked_run.id, event_sequence + 2, generation, 'run.completed', NULL, '{{}}', clock.now
  FROM locked_run, clock, verdict WHERE completes
), next_group AS (
  INSERT INTO workflow_stages ({", ".join(_PLANNED)}, queue_timeout_at, run_id, input_group, generation, status,
    priority, dispatch_priority, available_at, dispatched_at, created_at)
  SELECT {", ".join(_PLANNED.values())}, clock.now + planned.queue_timeout_ms, locked_run.id, locked_run.current_group,
    locked_run.generation, '{StageStatus.PENDING}', locked_run.priority, locked_run.priority, clock.now, clock.now,
    clock.now
  FROM locked_run, clock, verdict,
    json_to_recordset(CAST(:next_stages AS json)) AS planned({_PLANNED_TYPES}, queue_timeout_ms BIGINT)
  WHERE advances
), log_lines AS (
  INSERT INTO workflow_logs (stage_run_id, fence, line, run_id, stage_id, attempt, level, message, fields, created_at)
  SELECT stage.id, :fence, line, locked_run.id, stage.stage_id, stage.attempt, level, message, fields, created_at
  FROM locked_run, stage, json_to_recordset(CAST(:logs AS json)) AS written(line INTEGER, level TEXT, message TEXT,
    fields TEXT, created_at BIGINT)
  ON CONFLICT DO NOTHING
)
SELECT verdict.advances, run.status AS run_status, locked_run.priority FROM locked_run, verdict, run
""")  # noqa: S608 - composed at import, of this package's own tables and rules


def claim(connection: Connection, request: ClaimRequest) -> Claim | None:
    """Take a due, PENDING stage run for one attempt; None when the guard does not match."""
    row = connection.execute(_CLAIM, asdict(request)).mappings().first()
    return _to_claim(row) if row else None


def _to_claim(row: RowMapping) -> Claim:
    values = dict(row)
    found = {
        stage_id: StoredOutput(StageStatus(status), payload, group)
        for stage_id, status, payload, group in values.pop("outputs") or ()
    }
    return Claim(kind=ClaimKind.EXECUTE, outputs=found, **values)


@dataclass(frozen=True, slots=True)
class Completion:
    """An output to record, and what follows if it was the last of its group."""

    run_id: str
    stage_run_id: str
    fence: int
    output_id: str
    payload: str
    report: Report
    #: The stage runs of the next group; empty when this is the last one.
    next_stages: Sequence[NewStageRun]


def complete(connection: Connection, completion: Completion) -> Advanced | None:
    """Record the output, close the attempt and let the run advance; None when the guard does not match."""
    report = completion.report
    row = connection.execute(
        _COMPLETE,
        {
            "run_id": completion.run_id,
            "stage_run_id": completion.stage_run_id,
            "fence": completion.fence,
            "output_id": completion.output_id,
            "payload": completion.payload,
            "cost_nanos": report.cost_nanos,
            "tokens": report.tokens,
            "attempt_cost_nanos": report.cost_nanos if report.has_cost else None,
            "attempt_tokens": report.tokens if report.has_cost else None,
            "metrics": report.metrics,
            "next_count": len(completion.next_stages),
            "next_stages": json.dumps([asdict(stage) for stage in completion.next_stages]),
            "logs": json.dumps([asdict(line) for line in report.logs]),
        },
    ).first()
    if row is None:
        return None
    hints = tuple(
        Hint(stage.id, 1, completion.run_id, stage.stage_id, stage.queue, row.priority)
        for stage in (completion.next_stages if row.advances else ())
    )
    return Advanced(hints, RunStatus(row.run_status))
