"""The workflows of the protocol tests. What a body or poll does is decided from outside, call by call.

Outputs depend on the input alone, so the output of a run is known beforehand, whatever happens on the way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from workflow_engine.definition import (
    GroupFailurePolicy,
    Pending,
    Registry,
    Retry,
    Stage,
    Suspend,
    Workflow,
    WorkflowBuilder,
    define_async_batch_stage,
)
from workflow_engine.errors import RetryAfter

MAX_ATTEMPTS = 2
MAX_CRASHES = 2
BACKOFF_MS = 2_000
POLL_INTERVAL_MS = 5_000
MAX_WAIT_MS = 200_000
QUEUE_TIMEOUT_MS = 120_000
DEADLINE_MS = 400_000


class FlakyError(Exception):
    """Retried."""


class BrokenError(Exception):
    """Not retried."""


@dataclass(frozen=True)
class Script:
    """What user code does the next time it is called."""

    #: complete, retry, break, later or suspend.
    body: str = "complete"
    #: ready, pending, unreachable, fail, break or later.
    poll: str = "ready"
    #: Of later and pending.
    delay_ms: int = 1_000
    #: Whether the worker has no definition of the workflow.
    unknown: bool = False

    @property
    def delay(self) -> timedelta:
        return timedelta(milliseconds=self.delay_ms)


GOOD = Script()


@dataclass
class Play:
    """The script of the moment, and what was called."""

    script: Script = GOOD
    #: (stage run, fence) of every call of user code: no two may be equal.
    calls: list[tuple[str, int]] = field(default_factory=list)
    #: Inputs that were not those of the fault-free run.
    surprises: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.script = GOOD
        self.calls.clear()
        self.surprises.clear()

    def perform(self, context: Any) -> Any:
        self.calls.append((context.stage_run_id, context.fence))
        wanted = fault_free(context.workflow_id, dict(context.metadata)).inputs[context.stage_id]
        if context.input != wanted:
            self.surprises.append(f"{context.stage_id} got {context.input!r} instead of {wanted!r}")
        if self.script.body == "retry":
            raise FlakyError
        if self.script.body == "break":
            raise BrokenError
        if self.script.body == "later":
            raise RetryAfter(self.script.delay)
        if self.script.body == "suspend":
            return Suspend(context.input, poll_interval=timedelta(milliseconds=POLL_INTERVAL_MS))
        return output_of(context.stage_id, context.input)

    def poll(self, context: Any) -> Any:
        self.calls.append((context.stage_run_id, context.fence))
        if self.script.poll == "unreachable":
            raise ConnectionError
        if self.script.poll == "fail":
            raise FlakyError
        if self.script.poll == "break":
            raise BrokenError
        if self.script.poll == "later":
            raise RetryAfter(self.script.delay)
        if self.script.poll == "pending":
            return Pending(self.script.delay)
        return output_of(context.stage_id, context.state)


PLAY = Play()


def output_of(stage_id: str, value: object) -> str:
    """Return what a stage makes of its input."""
    text = json.dumps([stage_id, value], sort_keys=True)
    return f"{stage_id}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _stage(stage_id: str, **options: Any) -> Stage[Any, Any]:
    def execute(context: Any) -> Any:
        return PLAY.perform(context)

    def check(context: Any) -> Any:
        return PLAY.poll(context)

    return define_async_batch_stage(
        id=stage_id,
        execute=execute,
        check=check,
        input=Any,
        output=str,
        state=Any,
        retry=Retry(MAX_ATTEMPTS, backoff=timedelta(milliseconds=BACKOFF_MS), jitter=False, give_up_on=(BrokenError,)),
        max_crashes=MAX_CRASHES,
        max_wait=timedelta(milliseconds=MAX_WAIT_MS),
        on_cancel=lambda _: None,
        **options,
    )


def _is_odd(context: Any) -> bool:
    return bool(context.metadata["number"] % 2)


a, b, c, d = (_stage(name) for name in "abcd")
skippable = _stage("skippable", skip_if=_is_odd)
impatient = _stage("impatient", queue_timeout=timedelta(milliseconds=QUEUE_TIMEOUT_MS))

WORKFLOWS: dict[str, Workflow[Any, Any]] = {
    built.id: built
    for built in (
        WorkflowBuilder("line", input=int).pipe(a).parallel(b, c).pipe(d).build(),
        WorkflowBuilder("patient", input=int).parallel(a, b, c, on_failure=GroupFailurePolicy.WAIT_ALL).pipe(d).build(),
        WorkflowBuilder("hasty", input=int, deadline=timedelta(milliseconds=DEADLINE_MS))
        .parallel(a, impatient, on_failure=GroupFailurePolicy.FAIL_FAST)
        .parallel(c, d)
        .build(),
        WorkflowBuilder("skipping", input=int).pipe(a).pipe(skippable).parallel(b, c).build(),
    )
}
REGISTRY = Registry(WORKFLOWS)
EMPTY_REGISTRY = Registry({})


@dataclass(frozen=True)
class FaultFree:
    """What happens to a run that nothing happens to."""

    inputs: dict[str, Any]
    output: Any


def fault_free(workflow_id: str, metadata: dict[str, Any]) -> FaultFree:
    """Return the inputs of the stages and the output of a run with the number that its metadata hold."""
    number = metadata["number"]
    inputs: dict[str, Any] = {}
    value: Any = number
    for group in WORKFLOWS[workflow_id].groups:
        outputs = {}
        for stage in group.stages:
            inputs[stage.id] = value
            if not (stage.id == "skippable" and number % 2):
                outputs[stage.id] = output_of(stage.id, value)
        if outputs:
            value = outputs if group.is_parallel else outputs[group.stages[0].id]
    return FaultFree(inputs, value)
