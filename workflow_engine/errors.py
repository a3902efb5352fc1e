"""Every error that workflow_engine raises or records.

WorkflowEngineError
├── ConfigurationError            settings, URLs and environment
├── DefinitionError               a stage or workflow that cannot be built
├── InvalidRequestError           a request refused before anything was written
│   ├── InvalidDataError          data that its schema rejects (input, config, output, state)
│   ├── PayloadError              a value that cannot be stored as JSON, or is too large
│   └── InvalidPriorityError
├── NotFoundError
│   ├── WorkflowNotFoundError
│   ├── RunNotFoundError
│   ├── StageNotFoundError
│   └── ArtifactNotFoundError
├── ConflictError                 the request does not fit the state of things
│   ├── IdempotencyConflictError
│   ├── RunStateError
│   └── RerunRefusedError
├── StageError                    raised to, or on behalf of, a stage body; recorded on the stage run
│   ├── StageOutputMissing
│   ├── StageSkipped
│   ├── StageTimeout
│   ├── StageCancelled
│   ├── LeaseLost
│   └── RetryAfter                a body asks for its next attempt
├── RunError                      how a run that somebody waits for ended
│   ├── RunFailed
│   ├── RunCancelled
│   └── RunWaitTimeout
└── StoreError
    ├── DatabaseUnavailableError  nothing can be said about the call: try later
    ├── DatabaseTimeoutError      one operation was too slow, and changed nothing: ask for less
    └── MigrationRequiredError
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from workflow_engine.names import among

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class ErrorCode(StrEnum):
    """Why a stage run or a run failed: the machine-readable half of a recorded error."""

    #: The body raised and its retry policy is exhausted or does not cover the error.
    STAGE_ERROR = "STAGE_ERROR"
    #: An attempt ran longer than the stage's ``timeout``.
    TIMEOUT = "TIMEOUT"
    #: The stage run waited longer than its ``queue_timeout`` before it was first claimed.
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    #: A suspension lasted longer than its ``max_wait``.
    WAIT_TIMEOUT = "WAIT_TIMEOUT"
    #: The run passed its ``deadline``.
    DEADLINE = "DEADLINE"
    #: Its workers died or lost their lease ``max_crashes`` times.
    WORKER_LOST = "WORKER_LOST"
    #: Input, config, output or suspended state does not match its schema.
    INVALID_DATA = "INVALID_DATA"
    #: The value cannot be stored: not JSON, nested too deeply, or too large.
    INVALID_PAYLOAD = "INVALID_PAYLOAD"
    #: ``ctx.require`` or the stage's input names an output that does not exist.
    OUTPUT_MISSING = "OUTPUT_MISSING"
    #: ``ctx.require`` names a stage that was skipped.
    STAGE_SKIPPED = "STAGE_SKIPPED"
    #: No worker had a definition that fits the plan of the run.
    DEFINITION_MISMATCH = "DEFINITION_MISMATCH"
    #: Somebody reported the failure through ``runtime.fail_stage`` or a signed callback.
    REPORTED = "REPORTED"
    #: The body ended, but its outcome could not be written to the database.
    NOT_RECORDED = "NOT_RECORDED"


class WorkflowEngineError(Exception):
    """Base of every error of this package; all of them survive pickling."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, vars(self))


def _restore(cls: type[WorkflowEngineError], args: tuple[object, ...], state: dict[str, object]) -> WorkflowEngineError:
    """Make an error without its constructor, which may want something else than the message."""
    error = cls.__new__(cls)
    error.args = args
    vars(error).update(state)
    return error


class ConfigurationError(WorkflowEngineError):
    """Settings, a URL or the environment cannot be used as given."""


class DefinitionError(WorkflowEngineError):
    """A stage or workflow cannot be built; the message names the stages involved."""


class InvalidRequestError(WorkflowEngineError):
    """A request was refused before anything was written."""


class InvalidDataError(InvalidRequestError):
    """Data does not match its schema.

    Attributes:
        what: The name of the data, e.g. ``input of workflow "invoices"``.
        problems: One ``path: message`` line for each rejected field.
    """

    def __init__(self, what: str, problems: Sequence[str]) -> None:
        self.what = what
        self.problems = tuple(problems)
        super().__init__(f"Invalid {what}: " + "; ".join(self.problems))


class PayloadError(InvalidRequestError):
    """A value cannot be stored faithfully as JSON, or is larger than allowed."""


class InvalidPriorityError(InvalidRequestError):
    """A priority is not a whole number of the scale (see ``workflow_engine.priorities``)."""


class NotFoundError(WorkflowEngineError):
    """A thing that was asked for by id does not exist."""


class WorkflowNotFoundError(NotFoundError):
    """No workflow of that id is registered here."""

    def __init__(self, workflow_id: object, known: Iterable[str] = ()) -> None:
        self.workflow_id = workflow_id
        super().__init__(f"Workflow {workflow_id!r} is not registered" + among(workflow_id, known, kind="registered"))


class RunNotFoundError(NotFoundError):
    """No run has that id."""

    def __init__(self, run_id: object) -> None:
        self.run_id = run_id
        super().__init__(f"Run {run_id!r} does not exist")


class StageNotFoundError(NotFoundError):
    """The workflow or run has no stage of that id."""

    def __init__(self, stage_id: object, workflow_id: str, known: Iterable[str] = ()) -> None:
        self.stage_id = stage_id
        self.workflow_id = workflow_id
        there = among(stage_id, known, kind="stages")
        super().__init__(f'Stage "{stage_id}" not found in workflow "{workflow_id}"{there}')


class ArtifactNotFoundError(NotFoundError):
    """The run has no artifact under that key."""


class ConflictError(WorkflowEngineError):
    """The request is well formed but does not fit the present state; nothing was changed."""


class IdempotencyConflictError(ConflictError):
    """The idempotency key was used before for another request."""


class RunStateError(ConflictError):
    """The run's status does not allow the request."""


class RerunRefusedError(ConflictError):
    """The run cannot be rerun from that stage."""


class StageError(WorkflowEngineError):
    """Base of errors that concern the execution of a stage."""

    code: ErrorCode = ErrorCode.STAGE_ERROR


class StageOutputMissing(StageError):
    """An output that the stage needs does not exist; never retried."""

    code = ErrorCode.OUTPUT_MISSING


class StageSkipped(StageError):
    """A required output belongs to a stage that was skipped; never retried."""

    code = ErrorCode.STAGE_SKIPPED


class StageTimeout(StageError):
    """An attempt or a poll ran longer than allowed."""

    code = ErrorCode.TIMEOUT


class StageCancelled(StageError):
    """Raised by ``ctx.raise_if_cancelled()`` once the run was cancelled or the lease lost."""


class LeaseLost(StageError):
    """This worker does not own the stage run any more; its outcome is discarded."""


class RetryAfter(StageError):
    """Raise it in a body, or a poll, to be called again after ``delay``; that uses up none of ``max_attempts``.

    A body may do so a hundred times in one stage run.

    Args:
        delay: How long to wait; a negative delay is refused.
        reason: Recorded as the error of this attempt.
    """

    def __init__(self, delay: timedelta, reason: str = "the stage asked for a retry") -> None:
        if delay < timedelta(0):
            raise ValueError(f"RetryAfter needs a delay of zero or more, got {delay}")
        self.delay = delay
        self.reason = reason
        super().__init__(reason)


class RunError(WorkflowEngineError):
    """A run that somebody waited for did not deliver an output."""

    def __init__(self, run_id: str, message: str) -> None:
        self.run_id = run_id
        super().__init__(message)


class RunFailed(RunError):
    """The run ended FAILED; the message is the first failing stage's error."""


class RunCancelled(RunError):
    """The run ended CANCELLED."""


class RunWaitTimeout(RunError):
    """The run had not ended when the time to wait was over; it goes on."""


class StoreError(WorkflowEngineError):
    """An operation of the database failed or was refused."""


class DatabaseUnavailableError(StoreError):
    """The database cannot be reached, or refuses to write; nothing is known about the call in flight."""


class DatabaseTimeoutError(StoreError):
    """A statement ran into its time limit, or an administrator cancelled it; nothing of the operation was kept.

    It is not made again: the same statement would load the database for as long once more.

    Attributes:
        operation: The function that was too slow.
    """

    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(
            f"The database cancelled {operation!r}: it took longer than a statement may, or an administrator ended it"
        )


class MigrationRequiredError(StoreError):
    """The schema of the database is not the one this version needs."""
