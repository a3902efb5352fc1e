"""The values that user code returns instead of an output, and the policy of its retries. Small and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from workflow_engine.definition.checks import (
    check_duration,
    check_fraction,
    check_mapping,
    check_metrics,
    check_name,
    check_number,
    check_optional_duration,
    check_whole_number,
)
from workflow_engine.definition.waits import Poll, Runs, Wait
from workflow_engine.errors import (
    DefinitionError,
    InvalidDataError,
    PayloadError,
    StageOutputMissing,
    StageSkipped,
)
from workflow_engine.ids import id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workflow_engine.ids import HasId

StateT_co = TypeVar("StateT_co", covariant=True, default=Any)

#: Errors that another attempt cannot heal.
NEVER_RETRIED: tuple[type[BaseException], ...] = (
    InvalidDataError,
    PayloadError,
    DefinitionError,
    StageOutputMissing,
    StageSkipped,
)


@dataclass(frozen=True, slots=True)
class Suspend(Generic[StateT_co]):
    """Return it to park the stage: no worker is held until the work that it waits for is done.

    The poll of the stage is asked for that work, unless the state says itself what is waited for, as the state of
    ``Suspend.until_runs`` does.

    Example:
        >>> Suspend({"batch_id": "b-1"}, poll_interval=timedelta(seconds=30)).state
        {'batch_id': 'b-1'}
    """

    #: The facts that the poll needs, such as the id of a batch. Stored, so keep secrets out of it.
    state: StateT_co
    #: Wait between polls; the stage's ``poll_interval`` if None.
    poll_interval: timedelta | None = field(default=None, kw_only=True)
    #: Longest suspension; the stage's ``max_wait`` if None.
    max_wait: timedelta | None = field(default=None, kw_only=True)
    #: Shown with the stage run; never read by the engine.
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True)
    #: Numbers recorded on the stage run.
    metrics: Mapping[str, float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_optional_duration("poll_interval", self.poll_interval)
        check_optional_duration("max_wait", self.max_wait)
        check_mapping("metadata", self.metadata)
        check_metrics("metrics", self.metrics)

    @property
    def wait(self) -> Wait[Any]:
        """The wait whose end is the end of the suspension."""
        return self.state if isinstance(self.state, Wait) else Poll(self.state)

    @staticmethod
    def until_runs(*runs: str | HasId) -> UntilRuns:
        """Park the stage until these runs have ended; the engine asks for them, no poll function is needed.

        The stage's output is then a dict of the runs' outputs, keyed by run id. Annotate the body ``-> UntilRuns``.

        Raises:
            ValueError: No run is given.
        """
        return UntilRuns(Runs(tuple(id_of(run) for run in runs)))


@dataclass(frozen=True, slots=True)
class UntilRuns(Suspend[Runs]):
    """A suspension that ends with other runs; made by ``Suspend.until_runs``.

    A body whose return annotation it is needs no poll, and the type of the stage's output is ``dict[str, Any]``.

    Raises:
        TypeError: It was made of anything but ``Runs``.
    """

    def __post_init__(self) -> None:
        Suspend.__post_init__(self)
        if not isinstance(self.state, Runs):
            raise TypeError("UntilRuns is made by Suspend.until_runs(run, ...), not of a " + type(self.state).__name__)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs that are waited for."""
        return self.state.run_ids


@dataclass(frozen=True, slots=True)
class Pending(Generic[StateT_co]):
    """Return it from a poll: the work is not done yet.

    Example:
        >>> Pending(next_poll_in=timedelta(minutes=1), progress=0.4).progress
        0.4
    """

    #: Wait until the next poll; the suspension's ``poll_interval`` if None.
    next_poll_in: timedelta | None = None
    #: Replaces the suspended state; None keeps it.
    state: StateT_co | None = field(default=None, kw_only=True)
    #: How much is done, from 0 to 1.
    progress: float | None = field(default=None, kw_only=True)
    #: Shown with the progress.
    message: str | None = field(default=None, kw_only=True)
    #: Numbers recorded on the stage run.
    metrics: Mapping[str, float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_optional_duration("next_poll_in", self.next_poll_in)
        if self.progress is not None:
            check_fraction("progress", self.progress)
        if self.message is not None:
            check_name("message", self.message)
        check_metrics("metrics", self.metrics)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed attempt is followed by another, and how long the stage waits in between.

    The wait grows from ``backoff`` by ``factor`` for each failure, up to ``max_backoff``. Attempts of workers that
    died are not failures, the stage's ``max_crashes`` counts them; nor are those that raised ``RetryAfter``.

    The defaults survive an outage of half a minute, such as the restart or failover of a database, a proxy or a
    provider: full waits of 1, 4, 16 and 64 s, each drawn between its half and the whole, are 42 to 85 s in all. The
    first comes soon, because most failures are over in a moment. A body that fails for a reason of its own is tried as
    often, and ends in the same minute and a half; name such errors in ``give_up_on``.

    Example:
        >>> Retry(jitter=False).delay(3, random=lambda: 0.5)
        datetime.timedelta(seconds=16)
    """

    #: Attempts in all, the first included.
    max_attempts: int = 5
    backoff: timedelta = timedelta(seconds=1)
    factor: float = 4.0
    max_backoff: timedelta = timedelta(minutes=5)
    #: Draw each wait evenly between its half and its full length, so that failures do not come back together.
    jitter: bool = True
    #: Only these errors are retried; validation and definition errors never are.
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    #: These are not, even if ``retry_on`` covers them.
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        check_whole_number("max_attempts", self.max_attempts, least=1)
        check_duration("backoff", self.backoff, zero=True)
        check_duration("max_backoff", self.max_backoff, zero=True)
        check_number("factor", self.factor)
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor}")
        _check_errors("retry_on", self.retry_on)
        _check_errors("give_up_on", self.give_up_on)

    def delay(self, failures: int, random: Callable[[], float]) -> timedelta:
        """Return the wait before the next attempt.

        Args:
            failures: Failed attempts so far, 1 or more.
            random: Returns a number from 0 to 1.

        Raises:
            ValueError: ``failures`` is less than 1.
        """
        check_whole_number("failures", failures, least=1)
        full = self._full_delay(failures)
        return full * (0.5 + random() / 2) if self.jitter else full

    def covers(self, error: BaseException) -> bool:
        """Tell whether an attempt that raised ``error`` may be followed by another."""
        if isinstance(error, NEVER_RETRIED + self.give_up_on):
            return False
        return isinstance(error, self.retry_on)

    def _full_delay(self, failures: int) -> timedelta:
        try:
            return min(self.backoff * self.factor ** (failures - 1), self.max_backoff)
        except OverflowError:
            return self.max_backoff if self.backoff else timedelta(0)


def _check_errors(name: str, errors: object) -> None:
    if not isinstance(errors, tuple):
        raise TypeError(f"{name} must be a tuple of exception classes, not {type(errors).__name__}")
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            raise TypeError(f"{name} must hold exception classes, got {error!r}")
