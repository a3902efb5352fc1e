"""PostgreSQL's forms of the two moves that every stage makes, claim and complete: one statement each.

They do what ``claims`` and ``LockedRun`` do in several, row for row; the contract tests run both. Reading them:

- ``r`` locks the run row. READ COMMITTED gives its latest version even when it had to wait.
- ``t`` reads the time after the lock was obtained; ``now()`` would be frozen before the wait.
- ``s`` is the guarded move of the stage run; everything else hangs on its row, so a guard that fails writes nothing.
- A completion that makes the run fail, because a sibling had failed before, is left to the portable form: it is rare,
  and its event tells why in words.
- The barrier is the counter ``remaining`` of the locked row. Counting members instead would use the snapshot from
  before the wait and lose the last member's advance without any error.

**What a statement that waits for a lock may read.** Everything but the columns of the row that it locked is of the
snapshot from before the wait: other tables, sub-selects, EXISTS, and the updated table's own alias, too. PostgreSQL
checks the constraints of the row that it makes from that old version before it notices that the row has changed. So:

- An UPDATE of the run takes every value from ``r``, and sets every column that a CHECK constraint joins with one that
  it sets. ``w`` serves to find the row.
- An UPDATE of the stage run reads its own alias for columns that no constraint knows; the constants that it sets
  satisfy every constraint whatever the other columns hold.
- What another table tells is asked after the lock, by a VOLATILE function in ``t`` (``workflow_is_paused``), or by a
  second statement.
- The claim's sub-select of outputs is the exception. It reads rows that cannot change while the stage run is PENDING
  and live: its group exists because the groups before it had ended, and their stage runs are superseded by a rerun
  only, which wants an ended run, that is one without a stage run to claim.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from workflow_engine.lifecycle import RunStatus, StageStatus
from workflow_engine.store.records import Advanced, Claim, ClaimKind, Hint, StoredOutput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, RowMapping

    from workflow_engine.store.records import ClaimRequest, NewStageRun, Report

_CLAIM = text("""
WITH r AS MATERIALIZED (
  SELECT id, workflow_id, status, generation, event_sequence, failed, plan, config, metadata, input, parent_stage_run_id,
         started_at
  FROM workflow_runs
  WHERE id = (SELECT run_id FROM workflow_stages WHERE id = :stage_run_id)
    AND status IN ('PENDING', 'RUNNING') AND paused_at IS NULL
  FOR UPDATE
), t AS MATERIALIZED (SELECT workflow_now() AS now FROM r WHERE NOT workflow_is_paused(r.workflow_id)
), s AS (
  UPDATE workflow_stages s
  SET status = 'RUNNING', attempt = s.attempt + 1, fence = s.fence + 1, lease_id = :nonce,
      lease_until = t.now + :lease_ms, worker_id = :worker_id, claimed_at = t.now,
      started_at = coalesce(s.started_at, t.now),
      claimed_dispatch_at = CASE WHEN s.dispatch_number = :dispatch_number THEN s.dispatched_at
                                 ELSE s.claimed_dispatch_at END
  FROM r, t
  WHERE s.id = :stage_run_id AND s.run_id = r.id AND s.status = 'PENDING' AND s.superseded_by IS NULL
    AND s.available_at <= t.now
  RETURNING s.*
), a AS (
  INSERT INTO workflow_attempts (stage_run_id, fence, kind, attempt, lease_id, worker_id, started_at)
  SELECT s.id, s.fence, 'EXECUTE', s.attempt, s.lease_id, s.worker_id, s.claimed_at FROM s
), u AS (
  UPDATE workflow_runs w
  SET status = 'RUNNING', started_at = coalesce(r.started_at, t.now),
      event_sequence = r.event_sequence + CASE WHEN r.status = 'PENDING' THEN 2 ELSE 1 END
  FROM r, s, t WHERE w.id = r.id
), e AS (
  INSERT INTO workflow_events (run_id, sequence, generation, type, stage_id, payload, created_at)
  SELECT r.id, r.event_sequence + 1, r.generation, 'run.started', NULL, '{}', t.now
  FROM r, s, t WHERE r.status = 'PENDING'
  UNION ALL
  SELECT r.id, r.event_sequence + CASE WHEN r.status = 'PENDING' THEN 2 ELSE 1 END, r.generation,
         'stage.started', s.stage_id, '{"attempt":' || s.attempt || '}', t.now
  FROM r, s, t
)
SELECT s.id AS stage_run_id, s.fence, s.lease_id, s.run_id, s.stage_id, s.stage_name, s.stage_number,
       s.execution_group, s.input_group, s.generation, s.attempt, s.crashes, s.postponements, s.max_attempts, s.priority,
       s.queue, s.suspended_state, s.suspended_on, s.suspended_at, s.poll_interval_ms, s.max_wait_until, s.polls, s.poll_failures,
       s.wake_sequence, s.mismatch_since, s.claimed_at, s.metrics, r.workflow_id, r.plan, r.config, r.metadata, r.failed AS failed_siblings,
       r.parent_stage_run_id,
       CASE WHEN s.input_group = 0 THEN r.input END AS run_input,
       (SELECT json_agg(json_build_array(p.stage_id, p.status, o.payload, p.execution_group) ORDER BY p.stage_number)
        FROM workflow_stages p LEFT JOIN workflow_outputs o ON o.id = p.output_id
        WHERE p.run_id = s.run_id AND p.superseded_by IS NULL
          AND (p.execution_group = s.input_group OR p.stage_id = ANY (string_to_array(s.dependencies, ',')))
       ) AS outputs
FROM s, r
""")

_COMPLETE = text("""
WITH r AS MATERIALIZED (
  SELECT id, generation, status, priority, current_group, input_group, output_group, remaining, failed, event_sequence,
         error_code
  FROM workflow_runs
  WHERE id = :run_id AND status = 'RUNNING' AND NOT (remaining = 1 AND failed > 0) FOR UPDATE
), t AS MATERIALIZED (SELECT workflow_now() AS now FROM r
), s AS (
  UPDATE workflow_stages s
  SET status = 'COMPLETED', output_id = :output_id, lease_id = NULL, lease_until = NULL, next_poll_at = NULL,
      completed_at = t.now, cost_nanos = s.cost_nanos + :cost_nanos, tokens = s.tokens + :tokens,
      metrics = coalesce(:metrics, s.metrics), mismatch_since = NULL,
      error_code = NULL, error_type = NULL, error_message = NULL, error_traceback = NULL
  FROM r, t
  WHERE s.id = :stage_run_id AND s.fence = :fence AND s.lease_id IS NOT NULL AND s.status IN ('RUNNING', 'SUSPENDED')
    AND s.superseded_by IS NULL
  RETURNING s.id, s.stage_id, s.attempt
), o AS (
  INSERT INTO workflow_outputs (id, run_id, stage_id, payload, created_at)
  SELECT :output_id, r.id, s.stage_id, :payload, t.now FROM r, s, t
), x AS MATERIALIZED (
  SELECT r.id, r.remaining = 1 AND :next_count = 0 AS completes, r.remaining = 1 AND :next_count > 0 AS advances
  FROM r, s
), a AS (
  UPDATE workflow_attempts a
  SET ended_at = t.now, outcome = 'COMPLETED', cost_nanos = :attempt_cost_nanos, tokens = :attempt_tokens
  FROM s, t WHERE a.stage_run_id = s.id AND a.fence = :fence AND a.outcome IS NULL
), u AS (
  UPDATE workflow_runs w
  SET remaining = CASE WHEN x.advances THEN :next_count ELSE r.remaining - 1 END,
      current_group = CASE WHEN x.advances THEN r.current_group + 1 ELSE r.current_group END,
      input_group = CASE WHEN x.advances THEN r.current_group ELSE r.input_group END,
      output_group = CASE WHEN x.completes THEN r.current_group ELSE r.output_group END,
      status = CASE WHEN x.completes THEN 'COMPLETED' ELSE r.status END,
      completed_at = CASE WHEN x.completes THEN t.now END, error_code = r.error_code,
      event_sequence = r.event_sequence + CASE WHEN x.completes THEN 2 ELSE 1 END
  FROM r, x, t WHERE w.id = r.id
  RETURNING w.status
), e AS (
  INSERT INTO workflow_events (run_id, sequence, generation, type, stage_id, payload, created_at)
  SELECT r.id, r.event_sequence + 1, r.generation, 'stage.completed', s.stage_id,
         '{"attempt":' || s.attempt || '}', t.now FROM r, s, t
  UNION ALL
  SELECT r.id, r.event_sequence + 2, r.generation, 'run.completed', NULL, '{}', t.now FROM r, x, t WHERE x.completes
), n AS (
  INSERT INTO workflow_stages (id, run_id, stage_id, stage_name, stage_number, execution_group, input_group,
    dependencies, generation, status, max_attempts, max_crashes, queue, priority, dispatch_priority, available_at,
    dispatched_at, queue_timeout_at, created_at)
  SELECT i.id, r.id, i.stage_id, i.stage_name, i.stage_number, r.current_group + 1, r.current_group,
    i.dependencies, r.generation, 'PENDING', i.max_attempts, i.max_crashes, i.queue, r.priority, r.priority, t.now,
    t.now, t.now + i.queue_timeout_ms, t.now
  FROM r, x, t, json_to_recordset(CAST(:next_stages AS json)) AS i(id text, stage_id text, stage_name text,
    stage_number int, dependencies text, max_attempts int, max_crashes int, queue text,
    queue_timeout_ms bigint)
  WHERE x.advances
), l AS (
  INSERT INTO workflow_logs (stage_run_id, fence, line, run_id, stage_id, attempt, level, message, fields, created_at)
  SELECT s.id, :fence, i.line, r.id, s.stage_id, s.attempt, i.level, i.message, i.fields, i.created_at
  FROM r, s, json_to_recordset(CAST(:logs AS json)) AS i(line int, level text, message text, fields text,
    created_at bigint)
  ON CONFLICT DO NOTHING
)
SELECT x.advances, u.status AS run_status, r.priority FROM r, x, u
""")


def claim(connection: Connection, request: ClaimRequest) -> Claim | None:
    """Take a due, PENDING stage run for one attempt; None when the guard does not match."""
    row = (
        connection.execute(
            _CLAIM,
            {
                "stage_run_id": request.stage_run_id,
                "dispatch_number": request.dispatch_number,
                "nonce": request.nonce,
                "worker_id": request.worker_id,
                "lease_ms": request.lease_ms,
            },
        )
        .mappings()
        .first()
    )
    return _to_claim(row) if row else None


def _to_claim(row: RowMapping) -> Claim:
    values = dict(row)
    found = [
        StoredOutput(name, StageStatus(status), payload, group)
        for name, status, payload, group in values.pop("outputs") or ()
    ]
    return Claim(kind=ClaimKind.EXECUTE, outputs={output.stage_id: output for output in found}, **values)


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
            "next_stages": json.dumps([_next_stage(stage) for stage in completion.next_stages]),
            "logs": json.dumps(
                [
                    {
                        "line": line.line,
                        "level": line.level,
                        "message": line.message,
                        "fields": line.fields,
                        "created_at": line.created_at,
                    }
                    for line in report.logs
                ]
            ),
        },
    ).first()
    if row is None:
        return None
    hints = tuple(
        Hint(stage.id, 1, completion.run_id, stage.stage_id, stage.queue, row.priority)
        for stage in (completion.next_stages if row.advances else ())
    )
    return Advanced(hints, RunStatus(row.run_status))


def _next_stage(stage: NewStageRun) -> dict[str, object]:
    return {
        "id": stage.id,
        "stage_id": stage.stage_id,
        "stage_name": stage.stage_name,
        "stage_number": stage.stage_number,
        "dependencies": ",".join(stage.dependencies),
        "max_attempts": stage.max_attempts,
        "max_crashes": stage.max_crashes,
        "queue": stage.queue,
        "queue_timeout_ms": stage.queue_timeout_ms,
    }
