"""Every column has a reader, or a reason to have none; what stages wait for is shown without its secrets."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import Pending, Suspend, WorkflowBuilder, define_async_batch_stage, define_stage
from workflow_engine.events import Event
from workflow_engine.store.reads import snapshots
from workflow_engine.store.schema.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]

#: Readers that return values instead of snapshots.
METHODS = {"get_input", "get_config", "get_output", "get_stage_output", "get_artifact", "list_runs"}

#: For each table what shows its columns: a field of the same name, another field, a method, or why nothing does.
SHOWN: dict[str, tuple[type[Any], dict[str, str]]] = {
    "workflow_runs": (
        snapshots.RunSnapshot,
        {
            "paused_at": "paused",
            "input_group": "none: how claims find their input",
            "remaining": "none: a counter of the barrier; the stages tell",
            "failed": "none: a counter of the barrier; the stages tell",
            "plan": "none: stages() tells the order, as far as the run has come",
            "input": "get_input()",
            "config": "get_config()",
            "request_fingerprint": "none: tells requests under one key apart",
            "failed_stage_run_id": "failed_stage_id",
            "event_sequence": "none: the sequence of the last event",
        },
    ),
    "workflow_stages": (
        snapshots.StageSnapshot,
        {
            "input_group": "none: how claims find their input",
            "dependencies": "none: of the definition; what a claim reads along",
            "superseded_by": "is_live",
            "fence": "none: each attempt has its own",
            "lease_id": "none: the nonce of a claim",
            "dispatch_priority": "none: the list that its message went to; priority tells",
            "dispatch_number": "none: names the latest message; redispatches tells of lost ones",
            "claimed_dispatch_at": "none: a watermark of the lists",
            "claimed_at": "none: its attempt's started_at",
            "suspended_on": "suspension",
            "suspended_state": "suspension",
            "suspended_metadata": "suspension",
            "poll_interval_ms": "suspension",
            "poll_failures": "suspension",
            "poll_crashes": "suspension",
            "final_poll_at": "suspension",
            "wake_sequence": "none: tells a body that suspends that it was woken meanwhile",
            "output_id": "get_stage_output()",
            "cost_nanos": "cost",
            "error_code": "error",
            "error_type": "error",
            "error_message": "error",
            "error_traceback": "error",
        },
    ),
    "workflow_outputs": (
        snapshots.StageSnapshot,
        {"payload": "get_stage_output()", "created_at": "completed_at"},
    ),
    "workflow_attempts": (
        snapshots.AttemptSnapshot,
        {
            "lease_id": "none: the nonce of a claim",
            "error_code": "error",
            "error_type": "error",
            "error_message": "error",
            "error_traceback": "error",
            "cost_nanos": "none: part of the stage run's sum",
            "tokens": "none: part of the stage run's sum",
        },
    ),
    "workflow_events": (Event, {}),
    "workflow_logs": (snapshots.LogEntry, {}),
    "workflow_artifacts": (
        snapshots.ArtifactEntry,
        {
            "scope": "stage_id",
            "payload": "get_artifact()",
            "stage_run_id": "written_by",
            "fence": "none: of the attempt that wrote it",
        },
    ),
    "workflow_run_metadata": (snapshots.RunSnapshot, {"run_id": "id", "key": "list_runs()", "value": "list_runs()"}),
    "workflow_annotations": (
        snapshots.AnnotationEntry,
        {"idempotency_key": "none: tells that a request is made again"},
    ),
    "workflow_controls": (snapshots.RunSnapshot, {"paused_at": "workflow_paused"}),
    "workflow_ticks": (
        type(None),
        dict.fromkeys(("name", "last_at", "reap_after"), "none: for the sweeps; doctor tells how old the last one is"),
    ),
}


@pytest.mark.parametrize("table", metadata.tables)
def test_every_column_is_shown_or_says_why_not(table: str) -> None:
    snapshot, elsewhere = SHOWN[table]
    shown = {field.name for field in fields(snapshot)} if snapshot is not type(None) else set()
    columns = {column.name for column in metadata.tables[table].columns}

    unknown = [
        name
        for name in columns
        if (place := elsewhere.get(name, name)) not in shown
        and not place.startswith("none: ")
        and place.removesuffix("()") not in METHODS
    ]

    assert unknown == []
    assert elsewhere.keys() - columns == set()


def test_what_a_suspended_stage_waits_for_is_shown_without_its_secrets(start: Start) -> None:
    def submit(_: Any) -> Any:
        state = {"batch_id": "b-42", "api_key": "sk-1", "iban": "DE1"}
        return Suspend(state, poll_interval=timedelta(minutes=3), metadata={"customer": "x", "Iban": "DE2"})

    one = define_async_batch_stage(
        id="a", execute=submit, check=lambda _: Pending(), input=int, output=int, state=dict[str, Any]
    )
    workflow = WorkflowBuilder("waits", input=int).pipe(one).build()
    tester = start(workflow, redact_keys=("iban", "api_key"))
    run = tester.create_run(workflow, 1)
    before = run.list_stages()[0].suspension
    tester.run_until_idle()

    shown: Any = run.list_stages()[0].suspension

    assert before is None
    assert (shown.on, shown.poll_interval) == ("poll", timedelta(minutes=3))
    assert shown.state == {"batch_id": "b-42", "api_key": "[redacted]", "iban": "[redacted]"}
    assert shown.metadata == {"customer": "x", "Iban": "[redacted]"}


def test_the_runs_that_a_stage_waits_for_and_the_stage_run_that_started_a_run_are_shown(start: Start) -> None:
    child = (
        WorkflowBuilder("child", input=int)
        .pipe(define_stage(id="c", execute=lambda _: 1, input=int, output=int))
        .build()
    )

    def begin(ctx: Any) -> Any:
        ids = {"parent_run_id": ctx.run_id, "parent_stage_run_id": ctx.stage_run_id}
        return Suspend.until_runs(tester.create_run(child, 1, idempotency_key="child", **ids))

    parent = (
        WorkflowBuilder("parent", input=int).pipe(define_stage(id="p", execute=begin, input=int, output=Any)).build()
    )
    tester = start(parent, child)
    run = tester.create_run(parent, 1)
    tester.deliver()

    waiting = run.list_stages()[0]
    started: Any = tester.find_run(idempotency_key="child")
    assert waiting.suspension is not None
    assert (waiting.suspension.on, waiting.suspension.state) == ("runs", [started.id])
    assert started.snapshot().parent_stage_run_id == waiting.id
