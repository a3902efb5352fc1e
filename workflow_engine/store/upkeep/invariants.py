"""What must hold of the records at any moment: queries that return no row. ``doctor`` and every fault test run them.

Each query selects the ids of the rows that break it. They are put together from constants only.
"""

# ruff: noqa: S608 - see above

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from workflow_engine.store.connection.database import Database

_ACTIVE = "('PENDING', 'RUNNING', 'SUSPENDED')"
_ENDED = "('COMPLETED', 'FAILED', 'CANCELLED')"

#: Name -> query.
INVARIANTS: dict[str, str] = {
    "01 lease columns agree with the status": """
        SELECT id FROM workflow_stages
        WHERE (lease_id IS NULL) <> (lease_until IS NULL) OR (status = 'RUNNING' AND lease_id IS NULL)
           OR (status NOT IN ('RUNNING', 'SUSPENDED') AND lease_id IS NOT NULL)""",
    "02 one live stage run for each stage of a run": """
        SELECT run_id FROM workflow_stages WHERE superseded_by IS NULL
        GROUP BY run_id, stage_id HAVING count(*) > 1""",
    "03 a terminal run has no active stage run": f"""
        SELECT r.id FROM workflow_runs r JOIN workflow_stages s ON s.run_id = r.id
        WHERE r.status IN {_ENDED} AND s.status IN {_ACTIVE}""",
    "04 a live run has an active stage run in its current group": f"""
        SELECT r.id FROM workflow_runs r
        WHERE r.status IN ('PENDING', 'RUNNING') AND NOT EXISTS (
          SELECT 1 FROM workflow_stages s WHERE s.run_id = r.id AND s.superseded_by IS NULL
            AND s.execution_group = r.current_group AND s.status IN {_ACTIVE})""",
    "05 groups finish in order": """
        SELECT s.id FROM workflow_stages s
        JOIN workflow_stages p ON p.run_id = s.run_id AND p.superseded_by IS NULL
          AND p.execution_group < s.execution_group AND p.status NOT IN ('COMPLETED', 'SKIPPED')
        WHERE s.superseded_by IS NULL""",
    "06 no live stage run is beyond the run's group": """
        SELECT s.id FROM workflow_stages s JOIN workflow_runs r ON r.id = s.run_id
        WHERE s.superseded_by IS NULL AND s.execution_group > r.current_group""",
    "07 a FAILED run has a failed stage run, or a cause of its own": """
        SELECT r.id FROM workflow_runs r
        WHERE r.status = 'FAILED' AND r.error_code <> 'DEADLINE' AND NOT EXISTS (
          SELECT 1 FROM workflow_stages s
          WHERE s.run_id = r.id AND s.superseded_by IS NULL AND s.status = 'FAILED')""",
    "08 a COMPLETED run has an output": """
        SELECT r.id FROM workflow_runs r
        WHERE r.status = 'COMPLETED' AND (r.output_group IS NULL OR (r.output_group > 0 AND NOT EXISTS (
          SELECT 1 FROM workflow_stages s JOIN workflow_outputs o ON o.id = s.output_id
          WHERE s.run_id = r.id AND s.superseded_by IS NULL AND s.execution_group = r.output_group)))""",
    "09 superseded stage runs have ended": f"""
        SELECT id FROM workflow_stages WHERE superseded_by IS NOT NULL AND status IN {_ACTIVE}""",
    "10 generations are consistent": """
        SELECT s.id FROM workflow_stages s JOIN workflow_runs r ON r.id = s.run_id
        WHERE s.generation > r.generation OR s.superseded_by > r.generation OR s.superseded_by <= s.generation""",
    "11 one accepted attempt for each COMPLETED stage run, with the newest fence": """
        SELECT s.id FROM workflow_stages s
        WHERE s.status = 'COMPLETED' AND s.shared_from IS NULL AND (
          (SELECT count(*) FROM workflow_attempts a WHERE a.stage_run_id = s.id AND a.outcome = 'COMPLETED') <> 1
          OR (SELECT max(a.fence) FROM workflow_attempts a
              WHERE a.stage_run_id = s.id AND a.outcome = 'COMPLETED') <> s.fence)""",
    "12 attempts are the claims that were not given back": """
        SELECT s.id FROM workflow_stages s
        WHERE s.attempt <> (SELECT count(*) FROM workflow_attempts a WHERE a.stage_run_id = s.id
          AND a.kind = 'EXECUTE' AND (a.outcome IS NULL OR a.outcome <> 'RELEASED'))""",
    "13 budgets are respected": """
        SELECT id FROM workflow_stages
        WHERE attempt - crashes - postponements > max_attempts OR crashes > max_crashes OR poll_crashes > max_crashes""",
    "14 an open attempt for each lease, with the same fence": """
        SELECT s.id FROM workflow_stages s
        WHERE (SELECT count(*) FROM workflow_attempts a WHERE a.stage_run_id = s.id AND a.outcome IS NULL)
              <> (CASE WHEN s.lease_id IS NULL THEN 0 ELSE 1 END)
           OR (s.lease_id IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM workflow_attempts a WHERE a.stage_run_id = s.id AND a.fence = s.fence
               AND a.outcome IS NULL AND a.lease_id = s.lease_id))""",
    "15 attempts of a stage run do not overlap": """
        SELECT a.stage_run_id FROM workflow_attempts a
        JOIN workflow_attempts b ON a.stage_run_id = b.stage_run_id AND a.fence < b.fence
        WHERE a.ended_at IS NULL OR a.ended_at > b.started_at""",
    "16 events are numbered 1..n without gaps": """
        SELECT r.id FROM workflow_runs r
        WHERE r.event_sequence <> (SELECT count(*) FROM workflow_events e WHERE e.run_id = r.id)
           OR r.event_sequence <> coalesce((SELECT max(e.sequence) FROM workflow_events e WHERE e.run_id = r.id), 0)""",
    "17 one terminal event in each ended generation, matching the status": f"""
        SELECT r.id FROM workflow_runs r
        WHERE (SELECT count(*) FROM workflow_events e WHERE e.run_id = r.id AND e.generation = r.generation
                 AND e.type IN ('run.completed', 'run.failed', 'run.cancelled'))
              <> (CASE WHEN r.status IN {_ENDED} THEN 1 ELSE 0 END)
           OR (r.status IN {_ENDED} AND NOT EXISTS (
             SELECT 1 FROM workflow_events e WHERE e.run_id = r.id AND e.generation = r.generation
               AND e.type = 'run.' || lower(r.status)))""",
    "18 one completed event for each COMPLETED stage run": """
        SELECT s.id FROM workflow_stages s
        WHERE s.status = 'COMPLETED' AND s.shared_from IS NULL AND (
          SELECT count(*) FROM workflow_events e WHERE e.run_id = s.run_id AND e.generation = s.generation
            AND e.type = 'stage.completed' AND e.stage_id = s.stage_id) <> 1""",
    "19 instants are in order": """
        SELECT id FROM workflow_stages
        WHERE started_at < created_at OR completed_at < created_at
        UNION ALL SELECT id FROM workflow_runs WHERE started_at < created_at OR completed_at < created_at""",
    "20 the counters of the live group agree with its stage runs": f"""
        SELECT r.id FROM workflow_runs r
        WHERE r.remaining <> (SELECT count(*) FROM workflow_stages s WHERE s.run_id = r.id
                AND s.superseded_by IS NULL AND s.execution_group = r.current_group AND s.status IN {_ACTIVE})
           OR r.failed <> (SELECT count(*) FROM workflow_stages s WHERE s.run_id = r.id
                AND s.superseded_by IS NULL AND s.execution_group = r.current_group AND s.status = 'FAILED')""",
    "21 the output of each live COMPLETED stage run exists, where it is shared, too": """
        SELECT s.id FROM workflow_stages s
        WHERE s.status = 'COMPLETED' AND s.superseded_by IS NULL
          AND NOT EXISTS (SELECT 1 FROM workflow_outputs o WHERE o.id = s.output_id)""",
    "22 what attempts cost is counted in their stage run": """
        SELECT s.id FROM workflow_stages s
        WHERE s.cost_nanos < (SELECT coalesce(sum(a.cost_nanos), 0) FROM workflow_attempts a WHERE a.stage_run_id = s.id)
           OR s.tokens < (SELECT coalesce(sum(a.tokens), 0) FROM workflow_attempts a WHERE a.stage_run_id = s.id)""",
    "23 every stage run of a COMPLETED run ended well": """
        SELECT s.id FROM workflow_stages s JOIN workflow_runs r ON r.id = s.run_id
        WHERE r.status = 'COMPLETED' AND s.superseded_by IS NULL AND s.status NOT IN ('COMPLETED', 'SKIPPED')""",
}

#: What must hold besides when nothing is under way any more.
FINAL_INVARIANTS: dict[str, str] = {
    "every run has ended": f"SELECT id FROM workflow_runs WHERE status NOT IN {_ENDED}",
    "no lease is left": "SELECT id FROM workflow_stages WHERE lease_id IS NOT NULL",
    "no clean-up is owed": "SELECT id FROM workflow_stages WHERE cleanup_due_at IS NOT NULL",
}


#: They read whole tables, and are asked when somebody wants to know.
_LONGEST_QUERY = timedelta(minutes=10)


def find_violations(database: Database, *, final: bool = False, limit: int = 20) -> dict[str, list[str]]:
    """Return the ids that break each invariant, ``limit`` of each at most; invariants that hold are absent.

    ``final`` also checks what must hold once no run is under way. Each query reads one snapshot.
    """
    queries = {**INVARIANTS, **(FINAL_INVARIANTS if final else {})}
    found = {name: _select_ids(database, query, limit) for name, query in queries.items()}
    return {name: ids for name, ids in found.items() if ids}


def _select_ids(database: Database, query: str, limit: int) -> list[str]:
    return database.read(
        lambda tx: [str(row[0]) for row in tx.execute(text(query)).fetchmany(limit)],
        limits=replace(database.limits, statement=_LONGEST_QUERY),
    )
