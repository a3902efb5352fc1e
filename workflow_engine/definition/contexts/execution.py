"""What every context has: whose execution it is, and what a body or poll may do besides returning an outcome.

Contexts are thin. Whatever has an effect goes through the port that the engine gives them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from typing_extensions import TypeVar

from workflow_engine.arguments import check_duration
from workflow_engine.definition.checks import check_fraction, check_metrics, check_whole_number, to_cost
from workflow_engine.definition.contexts.annotations import AnnotationKey, to_annotation
from workflow_engine.definition.contexts.children import ChildRequest, derive_key
from workflow_engine.definition.contexts.logs import StageLog, to_loggable
from workflow_engine.definition.contexts.port import CALLBACK_VALIDITY, StoredOutput
from workflow_engine.definition.contexts.storage import StageStorage
from workflow_engine.errors import (
    InvalidDataError,
    StageCancelled,
    StageOutputMissing,
    StageSkipped,
)
from workflow_engine.ids import id_of
from workflow_engine.lifecycle import StageStatus
from workflow_engine.names import among
from workflow_engine.payloads.text import decode_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from decimal import Decimal

    from workflow_engine.definition.contexts.children import ChildRun
    from workflow_engine.definition.contexts.port import ContextPort, StageIdentity
    from workflow_engine.definition.stages.stage import Stage
    from workflow_engine.definition.workflows.workflow import Workflow

O = TypeVar("O")  # noqa: E741 - an output
A = TypeVar("A")


class Execution:
    """What a context knows about the run and the stage being executed."""

    def __init__(self, *, identity: StageIdentity, port: ContextPort) -> None:
        self._identity = identity
        self._port = port

    @property
    def run_id(self) -> str:
        """The run."""
        return self._identity.run_id

    @property
    def workflow_id(self) -> str:
        """The workflow that the run executes."""
        return self._identity.workflow_id

    @property
    def stage_id(self) -> str:
        """The stage's definition."""
        return self._identity.stage_id

    @property
    def stage_name(self) -> str:
        """The stage's name for people."""
        return self._identity.stage_name

    @property
    def stage_run_id(self) -> str:
        """This stage of this run."""
        return self._identity.stage_run_id

    @property
    def attempt(self) -> int:
        """Which execution this is, from 1 on; those that were postponed, or vanished with their worker, count too."""
        return self._identity.attempt

    @property
    def generation(self) -> int:
        """How often the run was rerun."""
        return self._identity.generation

    @property
    def fence(self) -> int:
        """A number that grows with every claim of this stage run: lets other systems refuse an older execution."""
        return self._identity.fence

    @property
    def idempotency_key(self) -> str:
        """``run:generation:stage``: the same in every attempt, different after a rerun."""
        return self._identity.idempotency_key

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The run's metadata, read-only."""
        return MappingProxyType(dict(self._identity.metadata))

    @property
    def log(self) -> StageLog:
        """The log of this execution."""
        return StageLog(self._port)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(stage {self.stage_id!r} of run {self.run_id!r}, attempt {self.attempt})"


class ActiveExecution(Execution):
    """An execution that can read other outputs, report, and store artifacts."""

    def __init__(
        self,
        *,
        identity: StageIdentity,
        stages: Mapping[str, Stage[Any, Any]],
        port: ContextPort,
        groups: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(identity=identity, port=port)
        self._stages = stages
        self._groups = groups
        self._unnamed_children: set[str] = set()

    @property
    def storage(self) -> StageStorage:
        """Artifacts of this stage run; ``.shared`` for those that the run's stages share."""
        return StageStorage(self._port)

    @overload
    def require(self, stage: Stage[Any, O]) -> O: ...

    @overload
    def require(self, stage: str) -> Any: ...

    def require(self, stage: Stage[Any, Any] | str) -> Any:
        """Return the output of an earlier stage.

        Raises:
            StageOutputMissing: It has no output, or the workflow has no such stage.
            StageSkipped: It was skipped.
        """
        stage_id = id_of(stage)
        output = self._port.output_of(stage_id)
        if output.status is StageStatus.SKIPPED:
            raise StageSkipped(f'Stage "{self.stage_id}" requires the output of stage "{stage_id}", which was skipped')
        if output.status is not StageStatus.COMPLETED or output.payload is None:
            raise StageOutputMissing(self._describe_missing(stage_id, output))
        return self._parse(stage, output.payload)

    @overload
    def optional(self, stage: Stage[Any, O]) -> O | None: ...

    @overload
    def optional(self, stage: str) -> Any: ...

    def optional(self, stage: Stage[Any, Any] | str) -> Any:
        """Return the output of an earlier stage, or None where it has none, or where the workflow has no such stage.

        Raises:
            StageOutputMissing: The id of a stage is given that the workflow does not have: it is misspelt. A stage that
                several workflows use may ask for a stage object that only some of them have.
        """
        if isinstance(stage, str) and self._stages and stage not in self._stages:
            raise StageOutputMissing(self._describe_missing(stage, StoredOutput(None, None)))
        output = self._port.output_of(id_of(stage))
        if output.status is not StageStatus.COMPLETED or output.payload is None:
            return None
        return self._parse(stage, output.payload)

    def progress(self, fraction: float, message: str | None = None, **details: object) -> None:
        """Tell how much is done, from 0 to 1.

        Raises:
            ValueError: ``fraction`` is NaN or out of range.
        """
        check_fraction("progress", fraction)
        self._port.report_progress(
            float(fraction), message, {key: to_loggable(value) for key, value in details.items()}
        )

    @property
    def cancelled(self) -> bool:
        """Whether the run was cancelled or this worker lost the stage: what is done from now on is discarded."""
        return self._port.is_cancelled()

    def raise_if_cancelled(self) -> None:
        """Stop here if the run was cancelled.

        Raises:
            StageCancelled: It was.
        """
        if self.cancelled:
            raise StageCancelled(f'Stage "{self.stage_id}" of run {self.run_id} was cancelled')

    @overload
    def annotate(self, key: AnnotationKey[A], value: A) -> None: ...

    @overload
    def annotate(self, key: str, value: object) -> None: ...

    def annotate(self, key: str | AnnotationKey[Any], value: object) -> None:
        """Attach a searchable fact to the run; written together with the outcome of this execution.

        Raises:
            ValueError: The key is refused.
            InvalidDataError: The value is not of the key's type.
            PayloadError: The value cannot be stored as JSON.
        """
        self._port.annotate(*to_annotation(key, value))

    def report(self, cost: Decimal | float | None = None, tokens: int | None = None, **metrics: float) -> None:
        """Add to the cost, the tokens and the metrics of this stage run; written together with the outcome.

        Raises:
            ValueError: A number is negative, NaN or infinite.
        """
        check_metrics("metrics", metrics)
        if tokens is not None:
            check_whole_number("tokens", tokens, least=0)
        self._port.report(to_cost(cost), tokens or 0, metrics)

    @overload
    def create_run(
        self,
        workflow: Workflow[A, Any],
        input: A | Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: timedelta | datetime | None = None,
        start_after: datetime | None = None,
    ) -> ChildRun: ...

    @overload
    def create_run(
        self,
        workflow: str,
        input: object = None,
        *,
        key: str | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: timedelta | datetime | None = None,
        start_after: datetime | None = None,
    ) -> ChildRun: ...

    def create_run(
        self,
        workflow: Workflow[Any, Any] | str,
        input: object = None,  # noqa: A002 - the word of the domain
        *,
        key: str | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: timedelta | datetime | None = None,
        start_after: datetime | None = None,
    ) -> ChildRun:
        """Create a run as a child of this one; durable when this returns.

        An execution that is repeated gets the run that the first one created: a child is known by the stage run, the
        workflow and ``key``. A rerun of the stage creates new ones. The child is cancelled with this run and counts to
        its rolled-up cost; ``return Suspend.until_runs(child)`` waits for it, and the stage's output is then a dict of
        outputs by ``child.id``.

        Args:
            workflow: A workflow that is registered with the workers, or its id.
            input: A model, or what its schema parses.
            key: Tells children of one workflow apart; give what the child is about, such as a document's id.
            config: Overrides of its stages' default configs, by stage id.
            priority: As of ``WorkflowRuntime.create_run``, like all that follows.
            metadata: Plain JSON.
            deadline: An instant, or a duration from now.
            start_after: No stage of it begins before.

        Raises:
            WorkflowNotFoundError: The workflow is not registered here.
            InvalidRequestError: Something is refused; or this execution created a run of the workflow before, also
                without a key, so that a retry could not tell them apart.
            IdempotencyConflictError: An earlier execution created it with another input or config.
        """
        request = ChildRequest(
            workflow=workflow,
            input=input,
            idempotency_key=self.child_key(workflow, key),
            config=config,
            priority=priority,
            metadata=metadata or {},
            deadline=deadline,
            start_after=start_after,
        )
        return self._port.create_run(request)

    def callback_token(self, *, valid_for: timedelta = CALLBACK_VALIDITY) -> str:
        """Return a signed token with which a public endpoint, such as a webhook, can complete or fail this stage run.

        Hand it to the service that does the work, then return ``Suspend``. The endpoint calls
        ``runtime.complete_by_token(token, output)`` or ``runtime.fail_by_token(token, error)``. A call that comes while
        this body still runs counts: the stage has that outcome, and what the body returns is discarded. A call that
        comes between a failed attempt and the next one raises ``RunStateError``. Each call of this method, in whichever
        execution of the stage run, makes a token of the same stage run; a rerun makes another stage run.

        Raises:
            ConfigurationError: The setting ``signing_key`` is missing.
            InvalidRequestError: ``valid_for`` is no positive duration.
        """
        return self._port.make_callback_token(check_duration("valid_for", valid_for))

    def child_key(self, workflow: Workflow[Any, Any] | str, key: str | None = None) -> str:
        """Return the idempotency key of a child run: the same in every execution of this stage run.

        Raises:
            InvalidDataError: ``key`` is no text, or is missing for the second time: which of the two runs an earlier
                execution had created could not be told.
        """
        workflow_id = id_of(workflow)
        if key is None and workflow_id in self._unnamed_children:
            problem = (
                f'workflow "{workflow_id}" has a run already: give each a key of its own, so that a retry finds it'
            )
            raise InvalidDataError(f'key of a child run of stage "{self.stage_id}"', [problem])
        if key is None:
            self._unnamed_children.add(workflow_id)
        return derive_key(self.idempotency_key, workflow_id, key)

    def _parse(self, stage: Stage[Any, Any] | str, text: str) -> Any:
        known = self._stages.get(stage) if isinstance(stage, str) else stage
        if known is None:
            return decode_json(text)
        return known.output.decode(text, what=f'output of stage "{known.id}"')

    def _describe_missing(self, stage_id: str, output: StoredOutput) -> str:
        sentence = f'Stage "{self.stage_id}" requires the output of stage "{stage_id}"'
        if stage_id not in self._stages:
            there = among(stage_id, self._stages, kind="stages")
            return f'{sentence}, which workflow "{self.workflow_id}" does not have{there}'
        here, place = self._groups.get(self.stage_id), self._groups.get(stage_id)
        if here is not None and place is not None and place >= here:
            when = "runs at the same time, in the same group" if place == here else "runs later, in group"
            return f"{sentence}, which {when} {place}; outputs of groups before {here} can be had"
        return f"{sentence}, which is {output.status.value if output.status else 'not there'}"
