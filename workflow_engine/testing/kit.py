"""Workflows under test: no worker, no broker, no waiting. The test is the broker, and it turns the clock.

Everything but the carrying of messages is the real thing: the same engine functions as in a worker, on a real database.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from typing_extensions import override

from workflow_engine import engine as commands
from workflow_engine.clock import MAX_INSTANT, SystemClock, ms_to_instant, to_milliseconds
from workflow_engine.definition import as_registry
from workflow_engine.engine import CreateRun, Engine
from workflow_engine.facade.run_handle import RunHandle
from workflow_engine.facade.steering import RunControl
from workflow_engine.lifecycle import StageStatus
from workflow_engine.settings import Settings
from workflow_engine.store.connection.database import Database
from workflow_engine.store.reads.runs import database_now
from workflow_engine.store.schema import revisions as schema
from workflow_engine.store.upkeep.invariants import find_violations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from workflow_engine.definition import Workflow
    from workflow_engine.engine import Performed, SweepReport
    from workflow_engine.store.records import Hint

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")

#: More steps than this are a workflow that never comes to rest.
MOST_STEPS = 10_000

#: What PostgreSQL's clock becomes; the schema's own definition is this one with nothing added.
_TURNED_NOW = """
CREATE OR REPLACE FUNCTION workflow_now() RETURNS bigint LANGUAGE sql VOLATILE
AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint + {skew}'
"""


class TurnedClock:
    """A clock that is turned by hand; sleeping turns it instead of waiting."""

    def __init__(self) -> None:
        self.skew = timedelta(0)

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        return SystemClock().now() + self.skew

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic() + self.skew.total_seconds()

    def sleep(self, duration: timedelta) -> None:
        """Turn the clock by ``duration`` and return at once."""
        self.skew += duration


class WaitingMessages:
    """A dispatcher that keeps messages until the test delivers them."""

    def __init__(self) -> None:
        #: In the order in which they were sent; remove, repeat and reorder as you like.
        self.waiting: list[Hint] = []
        #: What led to executions that a cancel asked to end by force.
        self.terminated: list[Hint] = []
        #: Those that would be sent after a while; the sweep sends them as well, so a test may ignore them.
        self.later: list[tuple[Hint, timedelta]] = []
        #: While False nothing can be sent, and what is sent is lost.
        self.is_reachable = True

    def dispatch(self, hints: Sequence[Hint]) -> None:
        """Keep the messages."""
        if self.is_reachable:
            self.waiting.extend(hints)

    def dispatch_later(self, hint: Hint, delay: timedelta) -> None:
        """Note the message and its delay."""
        self.later.append((hint, delay))

    def terminate(self, hints: Sequence[Hint]) -> None:
        """Note what should be ended."""
        self.terminated.extend(hints)

    def empty_lists(self, lists: Collection[tuple[str, int]]) -> set[tuple[str, int]] | None:
        """Return which of the (queue, priority) lists hold no message; None while nothing can be sent."""
        if not self.is_reachable:
            return None
        return set(lists) - {(hint.queue, hint.priority) for hint in self.waiting}


class WorkflowTester(RunControl):
    """Runs workflows step by step in the test's own thread. Has everything that a runtime has to read and steer runs.

    Messages wait in ``messages.waiting``. ``deliver`` hands one to the engine, as a worker would; a message may be
    delivered twice, late or never. Time stands still only as far as the test needs it: it goes on as usual, and
    ``advance`` turns it forward for leases, retries, polls and deadlines alike.

    Example:
        >>> from pydantic import BaseModel
        >>> from workflow_engine.definition import StageContext, WorkflowBuilder, stage
        >>> class Text(BaseModel):
        ...     body: str
        >>> @stage
        ... def shout(ctx: StageContext[Text]) -> Text:
        ...     return Text(body=ctx.input.body.upper())
        >>> echo = WorkflowBuilder("echo", input=Text).pipe(shout).build()
        >>> with WorkflowTester(echo) as tester:
        ...     run = tester.create_run(echo, Text(body="hello"))
        ...     run.status.value, len(tester.messages.waiting)
        ...     message = tester.messages.waiting[0]
        ...     tester.deliver().result  # a worker takes the message
        ...     tester.deliver(message).result  # the broker delivers it once more
        ...     run.output().body
        ('PENDING', 1)
        'completed'
        'ignored'
        'HELLO'

    Args:
        workflows: A workflow, several, a mapping by id, or an object with ``get_workflow``.
        database_url: A database of the test alone: its schema is brought up to date and, on PostgreSQL, its clock is
            turned. By default one in memory.
        check: Assert after each step that the records are consistent.
        random: Returns numbers from 0 to 1, for the jitter of retries.
        settings: Settings that differ from the defaults.

    Raises:
        ConfigurationError: A setting does not fit.
        DefinitionError: Something is not a workflow, or two definitions share an id.
    """

    def __init__(
        self,
        workflows: object = (),
        *,
        database_url: str = "sqlite://",
        check: bool = False,
        random: Callable[[], float] = lambda: 0.5,
        **settings: Any,
    ) -> None:
        self.settings = Settings.load(database_url=database_url, **settings)
        self.clock = TurnedClock()
        self.messages = WaitingMessages()
        self.check = check
        self._random = random
        database = Database(self.settings.database_url, clock=self.clock)
        super().__init__(database, as_registry(workflows), redactor=self.settings.redactor)
        schema.upgrade(self.database)
        self._engine = self.new_engine()

    @property
    @override
    def engine(self) -> Engine:
        """What the steps are performed with."""
        return self._engine

    def new_engine(self, workflows: object = None) -> Engine:
        """Return an engine of another worker on the same database; by default it knows the same workflows."""
        registry = self.registry if workflows is None else as_registry(workflows)
        built = Engine.build(
            settings=self.settings,
            registry=registry,
            dispatcher=self.messages,
            database=self.database,
            clock=self.clock,
        )
        return replace(built, random=self._random)

    @overload
    def create_run(
        self, workflow: Workflow[InputT, OutputT], input: InputT | Mapping[str, Any] | None = None, **options: Any
    ) -> RunHandle[OutputT]: ...

    @overload
    def create_run(self, workflow: str, input: object = None, **options: Any) -> RunHandle[Any]: ...

    def create_run(self, workflow: Workflow[Any, Any] | str, input: object = None, **options: Any) -> RunHandle[Any]:  # noqa: A002 - the word of the domain
        """Create a run; the options are those of ``WorkflowRuntime.create_run``.

        Raises:
            WorkflowNotFoundError: The workflow is not registered here.
            InvalidRequestError: Something is refused; nothing was written.
        """
        request = CreateRun(workflow=workflow, input=input, **options)
        return RunHandle(self, commands.create_run(self.engine, request).run_id)

    def deliver(self, message: Hint | None = None, *, engine: Engine | None = None) -> Performed:
        """Hand a message to the engine: the most important of those that wait, the oldest first, or a given one.

        Args:
            message: Any message, also one that was delivered before; it stops waiting.
            engine: The worker that gets it.

        Raises:
            LookupError: No message waits.
        """
        chosen = message or self._next_message()
        if chosen in self.messages.waiting:
            self.messages.waiting.remove(chosen)
        performed = commands.execute_stage(engine or self.engine, chosen.stage_run_id, chosen.dispatch_number)
        self._check_if_asked()
        return performed

    @override
    def sweep(self, *, force: bool = True) -> SweepReport:
        """Sweep once, as beat triggers it; ``force`` does it however recent the last one was.

        Raises:
            AssertionError: A step of the sweep failed, or ``check`` found the records inconsistent.
        """
        report = super().sweep(force=force)
        if report.errors:
            raise AssertionError(f"the sweep failed: {report.errors}")
        self._check_if_asked()
        return report

    def advance(self, duration: timedelta) -> None:
        """Turn the time forward by ``duration``."""
        self.clock.skew += duration
        if self.database.is_postgres:
            statement = _TURNED_NOW.format(skew=to_milliseconds(self.clock.skew))
            self.database.execute_one(lambda connection: connection.exec_driver_sql(statement))
        else:
            self.database.skew = self.clock.skew

    def now(self) -> datetime:
        """Return the database's present time."""
        return ms_to_instant(self.database.read(database_now))

    def run_until_idle(self) -> None:
        """Deliver messages and sweep until nothing is due; what is due later stays for ``advance``.

        Raises:
            AssertionError: It does not come to rest, or ``check`` found the records inconsistent.
        """
        for _ in range(MOST_STEPS):
            if not self.messages.waiting:
                self.sweep()
            if not self.messages.waiting:
                return
            self.deliver()
        raise AssertionError(f"not idle after {MOST_STEPS} steps; {len(self.messages.waiting)} messages wait")

    def run_to_end(self, run: RunHandle[Any]) -> None:
        """Like ``run_until_idle``, and turn the time to the next retry or poll until ``run`` has ended.

        Raises:
            AssertionError: It does not end.
        """
        for _ in range(MOST_STEPS):
            self.run_until_idle()
            if run.status.is_terminal:
                return
            wait = self._next_due(run) - self.now()
            self.advance(max(wait, timedelta(0)) + timedelta(milliseconds=1))
        raise AssertionError(f"{run} is still {run.status.value} after {MOST_STEPS} retries and polls")

    def assert_consistent(self, *, final: bool = False) -> None:
        """Assert that the records keep every invariant; ``final`` adds what must hold once no run is under way.

        Raises:
            AssertionError: They do not; the message names the invariants and the rows.
        """
        violations = find_violations(self.database, final=final)
        if violations:
            raise AssertionError(f"the records are inconsistent: {violations}")

    def close(self) -> None:
        """Turn the time back and close every connection."""
        if self.clock.skew:
            self.advance(-self.clock.skew)
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_message(self) -> Hint:
        if not self.messages.waiting:
            raise LookupError("no message waits; is something due only later (advance), or lost (sweep)?")
        return max(self.messages.waiting, key=lambda hint: hint.priority)

    def _next_due(self, run: RunHandle[Any]) -> datetime:
        due = [
            (stage.next_poll_at if stage.status is StageStatus.SUSPENDED else stage.available_at) or MAX_INSTANT
            for stage in run.list_stages()
            if stage.status in {StageStatus.PENDING, StageStatus.SUSPENDED}
        ]
        if not due:
            raise AssertionError(f"{run} is {run.status.value} and waits for nothing")
        return min(due).astimezone(UTC)

    def _check_if_asked(self) -> None:
        if self.check:
            self.assert_consistent()
