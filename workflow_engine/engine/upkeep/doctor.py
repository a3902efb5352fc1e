"""The doctor: questions to the records and to the broker, each with an answer that a monitor can act on. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Protocol

from workflow_engine.clock import to_milliseconds
from workflow_engine.definition import Plan
from workflow_engine.engine.upkeep.sweep import TICK
from workflow_engine.errors import StoreError
from workflow_engine.store.connection.error_texts import summarize_any
from workflow_engine.store.reads.runs import database_now
from workflow_engine.store.schema import revisions as schema
from workflow_engine.store.upkeep import health
from workflow_engine.store.upkeep.due import find_stuck_runs, waiting_lists
from workflow_engine.store.upkeep.invariants import find_violations
from workflow_engine.store.upkeep.overdue import last_tick

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.connection.database import Database

#: Most ids that a finding names.
_NAMED = 10
#: Most workers that a detail names.
_NAMED_WORKERS = 3
#: Characters of a signing key that is hard to guess.
_SHORTEST_KEY = 32
#: With more runs than this the invariants are checked on request only: that reads every record.
MOST_RUNS = 10_000


class Health(StrEnum):
    """The verdict of a finding, or of all of them."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    #: The question could not be asked.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question."""

    check: str
    health: Health
    message: str
    #: Ids and names that the message is about, a handful at most.
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The answers to all questions."""

    findings: tuple[Finding, ...]

    @property
    def health(self) -> Health:
        """UNKNOWN where the records could not be read, DEGRADED where any finding is, else HEALTHY."""
        if any(finding.check in _REQUIRED and finding.health is Health.UNKNOWN for finding in self.findings):
            return Health.UNKNOWN
        is_degraded = any(finding.health is Health.DEGRADED for finding in self.findings)
        return Health.DEGRADED if is_degraded else Health.HEALTHY


class BrokerProbe(Protocol):
    """Questions to the broker and to the workers that are connected to it; None: they cannot be asked."""

    def depths(self, queues: Collection[str]) -> Mapping[str, int] | None:
        """Return how many messages wait in each queue."""

    def consumers(self) -> Mapping[str, Collection[str]] | None:
        """Return the queues that each worker consumes."""

    def idle_slots(self) -> int | None:
        """Return how many more tasks the workers could execute now."""

    def hazards(self) -> list[str]:
        """Return unsafe settings of the broker and of the Celery app, a sentence each."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of what counts as healthy."""

    #: Due work may wait so long for a worker.
    backlog_age: timedelta = timedelta(minutes=5)
    #: Whether every record is read to check the invariants; None: unless there are more than ``MOST_RUNS``.
    records: bool | None = None


#: The health, message and details of a finding.
_Answer = tuple[Health, str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Patient:
    engine: Engine
    probe: BrokerProbe
    limits: Limits
    #: Queues to which hints are sent.
    queues: tuple[str, ...]

    @property
    def patience_ms(self) -> int:
        """The time that the sweep has for a repair before its absence is a finding."""
        settings = self.engine.settings
        return to_milliseconds(settings.sweep_interval * 3 + settings.dispatch_slack)


_REQUIRED = ("database", "schema")


def check_access(database: Database) -> Diagnosis:
    """Ask whether the database has the schema of this version; every other question needs that."""
    answers = _check_database(database)
    if answers.health is not Health.HEALTHY:
        return Diagnosis((answers,))
    return Diagnosis((answers, _check_schema(database)))


def examine(engine: Engine, probe: BrokerProbe, queues: Collection[str], limits: Limits | None = None) -> Diagnosis:
    """Ask every question and return the answers; a question that fails is an answer as well.

    Args:
        engine: Its workflows are compared with live runs.
        probe: Asks the broker and the workers.
        queues: Every queue that a worker should consume.
        limits: The bounds of what counts as healthy.
    """
    access = check_access(engine.database)
    if access.health is not Health.HEALTHY:
        return access
    patient = _Patient(engine, probe, limits or Limits(), tuple(sorted(queues)))
    return Diagnosis((*access.findings, *(_ask(name, check, patient) for name, check in _CHECKS.items())))


def _ask(name: str, check: Callable[[_Patient], _Answer], patient: _Patient) -> Finding:
    try:
        found, message, details = check(patient)
    except Exception as error:  # noqa: BLE001 - the other questions are asked all the same
        return Finding(name, Health.UNKNOWN, f"could not be checked: {summarize_any(error)}")
    return Finding(name, found, message, tuple(details)[:_NAMED])


def _check_database(database: Database) -> Finding:
    try:
        refuses_writes = database.read(health.refuses_writes)
    except StoreError as error:
        return Finding("database", Health.UNKNOWN, str(error))
    if refuses_writes:
        return Finding("database", Health.DEGRADED, f"{database.safe_url} refuses to write: read-only, or a standby")
    return Finding("database", Health.HEALTHY, f"{database.safe_url} answers")


def _check_schema(database: Database) -> Finding:
    try:
        schema.check(database)
    except StoreError as error:
        return Finding("schema", Health.UNKNOWN, str(error))
    return Finding("schema", Health.HEALTHY, f"at revision {schema.HEAD}")


def _check_broker(patient: _Patient) -> _Answer:
    depths = patient.probe.depths(patient.queues)
    if depths is None:
        return Health.DEGRADED, "cannot be reached: hints are not sent, and what is due waits for the next sweep", ()
    return Health.HEALTHY, f"{sum(depths.values()):,} messages wait in {len(depths)} queues", ()


def _check_consumers(patient: _Patient) -> _Answer:
    consumers = patient.probe.consumers()
    if consumers is None:
        return Health.UNKNOWN, "workers cannot be asked over this broker", ()
    consumed = {queue for queues in consumers.values() for queue in queues}
    missing = [queue for queue in patient.queues if queue not in consumed]
    if missing:
        return Health.DEGRADED, f"no worker that answers consumes {', '.join(missing)}", missing
    return Health.HEALTHY, f"{len(consumers)} workers consume {len(patient.queues)} queues", ()


def _check_sweep(patient: _Patient) -> _Answer:
    database, interval = patient.engine.database, patient.engine.settings.sweep_interval
    last = database.read(lambda tx: last_tick(tx, TICK))
    if last is None:
        return Health.DEGRADED, "no sweep has run yet: start beat, or a worker that sweeps", ()
    age = timedelta(milliseconds=database.read(database_now) - last)
    is_late = age > interval * 3
    message = f"the last one was {age.total_seconds():.1f} s ago; one is due every {interval.total_seconds():g} s"
    return Health.DEGRADED if is_late else Health.HEALTHY, message, ()


def _check_leases(patient: _Patient) -> _Answer:
    count = patient.engine.database.read(lambda tx: health.count_expired_leases(tx, patient.patience_ms))
    if count:
        return Health.DEGRADED, f"{count:,} leases ran out and were not taken back", ()
    return Health.HEALTHY, "every lease is held or was taken back", ()


def _check_backlog(patient: _Patient) -> _Answer:
    lists = patient.engine.database.read(health.read_backlog)
    if not lists:
        return Health.HEALTHY, "nothing is due", ()
    oldest = timedelta(milliseconds=max(item.oldest_ms for item in lists))
    is_old = oldest > patient.limits.backlog_age
    message = f"{sum(item.count for item in lists):,} stage runs are due, the oldest for {oldest.total_seconds():.1f} s"
    details = [f"{i.queue} priority {i.priority}: {i.count:,} due, oldest {i.oldest_ms / 1000:.1f} s" for i in lists]
    return Health.DEGRADED if is_old else Health.HEALTHY, message, details


def _check_stuck(patient: _Patient) -> _Answer:
    """Find runs that nothing moves on: no lease, no later time, no hint that may still come."""
    engine = patient.engine
    present, lists = engine.database.read(waiting_lists)
    empty = engine.dispatcher.empty_lists([(item.queue, item.priority) for item in lists]) if lists else set()
    slack_ms = to_milliseconds(engine.settings.dispatch_slack)
    stuck: set[str] = set()
    for item in lists:
        # As in the sweep: an empty list has delivered every hint that was sent before it was asked.
        is_empty = empty is not None and (item.queue, item.priority) in empty
        waiting = replace(item, delivered_until=present) if is_empty else item
        find = partial(find_stuck_runs, waiting=waiting, slack_ms=slack_ms, patience_ms=patient.patience_ms)
        stuck.update(engine.database.read(partial(find, limit=_NAMED)))
    if stuck:
        return Health.DEGRADED, f"{len(stuck)} runs (or more) wait for nothing; is anybody sweeping?", sorted(stuck)
    return Health.HEALTHY, "every run waits for something that will come", ()


def _check_wedged(patient: _Patient) -> _Answer:
    """Find queues with due work, hints and idle workers but without claims: their workers do not consume."""
    lists = patient.engine.database.read(health.read_backlog)
    old = {item.queue for item in lists if item.oldest_ms > patient.patience_ms}
    claims = patient.engine.database.read(lambda tx: health.read_claims_since(tx, patient.patience_ms))
    suspects = sorted(old - {queue for queue, count in claims.items() if count})
    depths = patient.probe.depths(suspects) if suspects else {}
    silent = [queue for queue in suspects if depths and depths.get(queue)]
    if not silent:
        return Health.HEALTHY, "what is due is being taken", ()
    idle = patient.probe.idle_slots()
    if idle is None or idle == 0:
        return Health.HEALTHY, f"nothing was taken from {', '.join(silent)}, but no worker is idle", ()
    message = f"messages wait in {', '.join(silent)}, {idle} slots are idle, and nothing is taken: restart the workers"
    return Health.DEGRADED, message, silent


def _check_definitions(patient: _Patient) -> _Answer:
    registry = patient.engine.registry
    plans = patient.engine.database.read(health.read_live_plans)
    if not registry.ids():
        return Health.UNKNOWN, "no workflows are known here; name them with --app", ()
    unknown = {live.workflow_id for live in plans if registry.find(live.workflow_id) is None}
    queues = patient.engine.database.read(lambda tx: health.read_queues_of(tx, unknown)) if unknown else {}
    problems = [problem for live in plans if (problem := _find_mismatch(live, queues, patient))]
    if problems:
        return Health.DEGRADED, "live runs do not fit the definitions that are known here", problems
    fitting = sum(live.runs for live in plans if live.workflow_id not in unknown)
    return Health.HEALTHY, f"the plans of {fitting:,} live runs fit", ()


def _find_mismatch(live: health.LivePlan, queues: Mapping[str, set[str]], patient: _Patient) -> str | None:
    workflow = patient.engine.registry.find(live.workflow_id)
    who = f"{live.runs} runs of {live.workflow_id} (such as {live.example})"
    if workflow is None:
        problem = _find_shared_queue(live.workflow_id, queues.get(live.workflow_id, set()), patient)
        return f"{who}: {problem}" if problem else None
    plan = Plan.from_json(live.plan)
    if not plan.is_understood:
        return f"{who}: a later release wrote the plan, and this one does not understand it"
    planned = [stage.id for group in plan.groups for stage in group]
    missing = [stage_id for stage_id in planned if workflow.find_stage(stage_id) is None]
    return f"{who}: the workflow has no {', '.join(missing)}" if missing else None


def _find_shared_queue(workflow_id: str, queues: set[str], patient: _Patient) -> str | None:
    """Describe the queues that another app's workflow shares with this app; None where the other app has its own."""
    shared = sorted(queues.intersection(patient.queues))
    if not shared:
        return None
    own = ", ".join(sorted(patient.engine.registry.ids()))
    strangers = patient.engine.database.read(lambda tx: health.read_strangers(tx, workflow_id, _NAMED_WORKERS))
    given_back = f"; given back by {', '.join(strangers)}" if strangers else ""
    return (
        f"the workflow is not registered here, but waits in {', '.join(shared)} beside {own}{given_back}; "
        "if it is another app's, give each app a WORKFLOW_ENGINE_QUEUE of its own"
    )


def _check_configuration(patient: _Patient) -> _Answer:
    hazards = [*patient.probe.hazards(), *_find_key_hazards(patient.engine)]
    if hazards:
        return Health.DEGRADED, "; ".join(hazards), hazards
    return Health.HEALTHY, "no known hazard", ()


def _find_key_hazards(engine: Engine) -> list[str]:
    key = engine.settings.signing_key
    if key is None or len(key.get_secret_value()) >= _SHORTEST_KEY:
        return []
    return [f"the signing key is shorter than {_SHORTEST_KEY} characters"]


def _check_records(patient: _Patient) -> _Answer:
    wanted = patient.limits.records
    if wanted is None:
        wanted = not patient.engine.database.read(lambda tx: health.has_more_runs_than(tx, MOST_RUNS))
    if not wanted:
        return Health.UNKNOWN, f"not read, as that takes long with more than {MOST_RUNS:,} runs; ask with --records", ()
    violations = find_violations(patient.engine.database, limit=_NAMED)
    if violations:
        details = [f"{name}: {', '.join(ids)}" for name, ids in violations.items()]
        return Health.DEGRADED, f"{len(violations)} invariants do not hold: please report this", details
    return Health.HEALTHY, "every invariant holds", ()


_CHECKS: dict[str, Callable[[_Patient], _Answer]] = {
    "broker": _check_broker,
    "consumers": _check_consumers,
    "sweep": _check_sweep,
    "leases": _check_leases,
    "backlog": _check_backlog,
    "stuck runs": _check_stuck,
    "wedged workers": _check_wedged,
    "definitions": _check_definitions,
    "configuration": _check_configuration,
    "records": _check_records,
}
