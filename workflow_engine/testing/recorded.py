"""What a body under test did with its context, and the port that writes it down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow_engine.definition import ChildRun, Stage, StoredOutput, Workflow
from workflow_engine.definition.contexts.children import derive_key
from workflow_engine.definition.contexts.storage import encode_value
from workflow_engine.ids import id_of
from workflow_engine.lifecycle import StageStatus
from workflow_engine.payloads.text import decode_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta

    from workflow_engine.definition import ChildRequest


class LoggedLine(NamedTuple):
    """One call of ``ctx.log``; equal to a plain tuple of the same values."""

    #: debug, info, warning or error.
    level: str
    message: str
    fields: dict[str, object]


class ReportedProgress(NamedTuple):
    """One call of ``ctx.progress``; equal to a plain tuple of the same values."""

    fraction: float
    message: str | None
    details: dict[str, object]


@dataclass(slots=True)
class Recorded:
    """What a body, a poll or a hook did with the context that a test gave it."""

    logs: list[LoggedLine] = field(default_factory=list)
    progress: list[ReportedProgress] = field(default_factory=list)
    #: Name and plain JSON value of each annotation, in order.
    annotations: list[tuple[str, Any]] = field(default_factory=list)
    #: The sums of all ``ctx.report``.
    cost: Decimal = Decimal(0)
    tokens: int = 0
    #: The last value of each metric.
    metrics: dict[str, float] = field(default_factory=dict)
    #: Every call of ``ctx.create_run``.
    created_runs: list[ChildRequest] = field(default_factory=list)
    #: The answer of every call of ``ctx.callback_token``.
    callback_tokens: list[str] = field(default_factory=list)
    _artifacts: dict[tuple[bool, str], str] = field(default_factory=dict, repr=False)

    @property
    def artifacts(self) -> dict[str, Any]:
        """The artifacts of the stage, as plain JSON; a copy."""
        return {key: decode_json(text) for (shared, key), text in self._artifacts.items() if not shared}

    @property
    def shared_artifacts(self) -> dict[str, Any]:
        """The artifacts that the run's stages share, as plain JSON; a copy."""
        return {key: decode_json(text) for (shared, key), text in self._artifacts.items() if shared}


class RecordingPort:
    """The port of a context under test: answers from what the test gave, and records the rest.

    Args:
        outputs: Outputs of other stages, by stage or id.
        skipped: Other stages that were skipped.
        created_before: Ids of runs that an earlier execution created, by their key or, without one, their workflow's id.
        parent_key: The idempotency key of the stage run.
    """

    def __init__(
        self,
        *,
        outputs: Mapping[Stage[Any, Any] | str, object],
        skipped: Collection[Stage[Any, Any] | str],
        created_before: Mapping[str, str],
        parent_key: str,
    ) -> None:
        self.recorded = Recorded()
        self.cancelled = False
        #: The stages that were given as objects, by id: they parse outputs that a body asks for by the id.
        self.known = {stage.id: stage for stage in (*outputs, *skipped) if isinstance(stage, Stage)}
        self._outputs = {id_of(stage): StoredOutput(StageStatus.SKIPPED, None) for stage in skipped}
        for stage, value in outputs.items():
            self._outputs[id_of(stage)] = StoredOutput(StageStatus.COMPLETED, encode_output(stage, value))
        self._artifacts = self.recorded._artifacts  # noqa: SLF001 - shown there as plain JSON
        self._created_before = created_before
        self._parent_key = parent_key
        self._children: dict[str, ChildRun] = {}

    def output_of(self, stage_id: str) -> StoredOutput:
        """Return the given output."""
        return self._outputs.get(stage_id, StoredOutput(None, None))

    def write_log(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        """Record the line."""
        self.recorded.logs.append(LoggedLine(level, message, dict(fields)))

    def report_progress(self, fraction: float, message: str | None, details: Mapping[str, object]) -> None:
        """Record the progress."""
        self.recorded.progress.append(ReportedProgress(fraction, message, dict(details)))

    def is_cancelled(self) -> bool:
        """Return what the test has set."""
        return self.cancelled

    def annotate(self, key: str, value: object) -> None:
        """Record the annotation."""
        self.recorded.annotations.append((key, value))

    def report(self, cost: Decimal, tokens: int, metrics: Mapping[str, float]) -> None:
        """Add to what is recorded."""
        self.recorded.cost += cost
        self.recorded.tokens += tokens
        self.recorded.metrics |= metrics

    def save_artifact(self, key: str, payload: str, *, shared: bool) -> None:
        """Keep the text."""
        self._artifacts[shared, key] = payload

    def load_artifact(self, key: str, *, shared: bool) -> str | None:
        """Return the kept text, or None."""
        return self._artifacts.get((shared, key))

    def delete_artifact(self, key: str, *, shared: bool) -> bool:
        """Forget the text; tell whether there was one."""
        return self._artifacts.pop((shared, key), None) is not None

    def list_artifacts(self, prefix: str, *, shared: bool) -> list[str]:
        """Return the keys that begin with ``prefix``, sorted."""
        return sorted(key for scope, key in self._artifacts if scope is shared and key.startswith(prefix))

    def create_run(self, request: ChildRequest) -> ChildRun:
        """Record the request, checked by the workflow's schemas if it names the workflow by itself."""
        if isinstance(request.workflow, Workflow):
            if request.input is not None:
                request.workflow.input.store(request.input, what=f'input of workflow "{request.workflow.id}"')
            request.workflow.resolve_config(request.config)
        self.recorded.created_runs.append(request)
        found = self._children.get(request.idempotency_key)
        if found is not None:
            return replace(found, is_new=False)
        created = self._make_child(id_of(request.workflow), request.idempotency_key)
        self._children[request.idempotency_key] = created
        return created

    def make_callback_token(self, valid_for: timedelta) -> str:  # noqa: ARG002 - the port's
        """Return, and record, a token that says which call made it."""
        self.recorded.callback_tokens.append(f"callback-token-{len(self.recorded.callback_tokens) + 1}")
        return self.recorded.callback_tokens[-1]

    def _make_child(self, workflow_id: str, idempotency_key: str) -> ChildRun:
        for key, run_id in self._created_before.items():
            if idempotency_key == derive_key(self._parent_key, workflow_id, None if key == workflow_id else key):
                return ChildRun(run_id, workflow_id, is_new=False)
        return ChildRun(f"{workflow_id}-{len(self._children) + 1}", workflow_id, is_new=True)


def encode_output(stage: Stage[Any, Any] | str, value: object) -> str:
    """Return an output as the text that a run would have recorded."""
    what = f'output of stage "{id_of(stage)}"'
    return encode_value(value, what=what) if isinstance(stage, str) else stage.output.store(value, what=what)
