"""One run in this process: groups, waits, failures, reruns."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import wait
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from workflow_engine import (
    GroupFailurePolicy,
    GroupOutput,
    NoInput,
    Pending,
    PollContext,
    Retry,
    RunStatus,
    Settings,
    StageContext,
    StageStatus,
    Suspend,
    WorkflowBuilder,
    WorkflowExecutor,
    WorkflowRuntime,
    stage,
)
from workflow_engine.definition import as_registry
from workflow_engine.engine import CreateRun, Engine, create_run, sweep
from workflow_engine.errors import (
    InvalidDataError,
    InvalidRequestError,
    RerunRefusedError,
    RunFailed,
    StageNotFoundError,
)
from workflow_engine.facade.executor import HintQueue
from workflow_engine.store.connection.database import Database
from workflow_engine.store.records import Hint

if TYPE_CHECKING:
    from collections.abc import Iterator


class Word(BaseModel):
    text: str


class Ticket(BaseModel):
    number: int


calls: Counter[str] = Counter()
#: What stages of a test do; set by the test.
script: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def fresh_script() -> Iterator[None]:
    calls.clear()
    script.clear()
    yield
    script.clear()


@stage
def shout(ctx: StageContext[Word]) -> Word:
    calls["shout"] += 1
    return Word(text=ctx.input.text.upper())


@stage
async def measure(ctx: StageContext[Word]) -> int:
    calls["measure"] += 1
    return len(ctx.input.text)


@stage
def reverse(ctx: StageContext[Word]) -> str:
    calls["reverse"] += 1
    return ctx.input.text[::-1]


@stage
def join(ctx: StageContext[GroupOutput]) -> str:
    calls["join"] += 1
    return f"{ctx.input[reverse]}{ctx.input[measure]}"


words = WorkflowBuilder("words", input=Word).pipe(shout).parallel(measure, reverse).pipe(join).build()


@stage(retry=Retry(max_attempts=3, backoff=timedelta(minutes=1), factor=4.0, jitter=False))
def flaky(ctx: StageContext[NoInput]) -> int:
    if ctx.attempt < script["succeeds_at"]:
        raise ConnectionError(f"attempt {ctx.attempt} failed")
    return ctx.attempt


retried = WorkflowBuilder("retried").pipe(flaky).build()


def collected(ctx: PollContext[Ticket]) -> str | Pending:
    calls["poll"] += 1
    return f"ticket {ctx.state.number}" if calls["poll"] == script["ready_at"] else Pending()


@stage(poll=collected)
def submit(ctx: StageContext[NoInput]) -> Suspend[Ticket]:
    calls["submit"] += 1
    return Suspend(Ticket(number=7), poll_interval=timedelta(hours=1), max_wait=timedelta(hours=5))


batch = WorkflowBuilder("batch").pipe(submit).build()


@pytest.fixture
def turned(clock: Any) -> Iterator[dict[str, Any]]:
    """Options of an executor whose waits take no time: the database's clock is turned with the executor's."""
    clock.database = Database("sqlite://", clock=clock)
    yield {"database": clock.database, "clock": clock, "settings": Settings(sweep_interval=timedelta(minutes=10))}
    clock.database.close()


def test_a_run_goes_through_all_groups_on_both_databases(database: Database) -> None:
    executor = WorkflowExecutor(words, database=database)

    output = executor.execute(Word(text="abc"))

    assert output == "CBA3"
    assert executor.run.status is RunStatus.COMPLETED
    assert [(s.stage_id, s.execution_group, s.attempt) for s in executor.run.list_stages()] == [
        ("shout", 1, 1),
        ("measure", 2, 1),
        ("reverse", 2, 1),
        ("join", 3, 1),
    ]


def test_records_are_kept_in_memory_by_default_and_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    executor = WorkflowExecutor(words)

    assert executor.execute({"text": "abc"}) == "CBA3"
    for thread in set(threading.enumerate()) - before:
        thread.join(10)

    assert set(threading.enumerate()) <= before
    assert executor.run.output() == "CBA3"


def test_members_of_a_group_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=20)

    @stage
    def left(ctx: StageContext[NoInput]) -> int:
        return meeting.wait()

    @stage
    def right(ctx: StageContext[NoInput]) -> int:
        return meeting.wait()

    output = WorkflowExecutor(WorkflowBuilder("meeting").parallel(left, right).build()).execute()

    assert sorted([output[left], output[right]]) == [0, 1]


def test_no_more_than_concurrency_stages_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [0]

    def counted(*arguments: Any) -> Any:
        looks[0] += 1
        return wait(*arguments)

    monkeypatch.setattr("workflow_engine.facade.executor.wait", counted)
    busy, most, lock = set[str](), [0], threading.Lock()
    enough = threading.Event()

    def work(ctx: StageContext[NoInput]) -> str:
        with lock:
            busy.add(ctx.stage_id)
            most[0] = max(most[0], len(busy))
            if len(busy) == 2:
                enough.set()
        enough.wait(20)
        with lock:
            busy.discard(ctx.stage_id)
        return ctx.stage_id

    members = [stage(id=f"work-{number}")(work) for number in range(5)]
    output = WorkflowExecutor(WorkflowBuilder("many").parallel(*members).build(), concurrency=2).execute()

    assert (len(output), most[0]) == (5, 2)
    assert looks[0] <= 6  # it waits for a free slot without spinning


def test_a_retry_is_waited_for_by_the_clock(clock: Any, turned: Any) -> None:
    script["succeeds_at"] = 3
    executor = WorkflowExecutor(retried, **turned)

    output = executor.execute()

    assert output == 3
    assert clock.elapsed == pytest.approx(timedelta(minutes=5), abs=timedelta(seconds=5))
    assert len(clock.sleeps) < 5


def test_a_stage_that_fails_for_good_raises_its_own_error(clock: Any, turned: Any) -> None:
    script["succeeds_at"] = 99
    executor = WorkflowExecutor(retried, **turned)

    with pytest.raises(RunFailed, match="attempt 3 failed"):
        executor.execute()

    snapshot = executor.run.snapshot()
    assert (snapshot.status, snapshot.failed_stage_id, snapshot.error_code) == (
        RunStatus.FAILED,
        "flaky",
        "STAGE_ERROR",
    )


def test_a_suspended_stage_is_polled_until_it_is_ready(clock: Any, turned: Any) -> None:
    script["ready_at"] = 3
    executor = WorkflowExecutor(batch, **turned)

    output = executor.execute()

    assert output == "ticket 7"
    assert (calls["submit"], calls["poll"]) == (1, 3)
    assert clock.elapsed == pytest.approx(timedelta(hours=3), abs=timedelta(seconds=5))


def test_a_suspension_ends_at_max_wait(clock: Any, turned: Any) -> None:
    script["ready_at"] = 99
    executor = WorkflowExecutor(batch, **turned)

    with pytest.raises(RunFailed):
        executor.execute()

    [snapshot] = executor.run.list_stages()
    assert (snapshot.status, snapshot.error and snapshot.error.code) == (StageStatus.FAILED, "WAIT_TIMEOUT")
    assert clock.elapsed == pytest.approx(timedelta(hours=5), abs=timedelta(minutes=10, seconds=5))


def test_the_sibling_of_a_failed_stage_finishes_before_execute_returns() -> None:
    failed, finished = threading.Event(), threading.Event()

    @stage(retry=Retry(max_attempts=1))
    def breaks(ctx: StageContext[NoInput]) -> int:
        failed.set()
        raise ValueError("broken")

    @stage
    def goes_on(ctx: StageContext[NoInput]) -> int:
        failed.wait(20)
        finished.set()
        return 1

    workflow = WorkflowBuilder("siblings", on_failure=GroupFailurePolicy.FAIL_FAST).parallel(breaks, goes_on).build()
    executor = WorkflowExecutor(workflow)

    with pytest.raises(RunFailed, match="broken"):
        executor.execute()

    assert finished.is_set()


def test_a_rerun_from_a_stage_reuses_what_came_before() -> None:
    executor = WorkflowExecutor(words)
    executor.execute(Word(text="abc"))

    output = executor.execute(from_stage=join)

    assert output == "CBA3"
    assert calls == {"shout": 1, "measure": 1, "reverse": 1, "join": 2}
    assert executor.run.snapshot().generation == 1
    assert [(s.generation, s.is_live) for s in executor.run.list_stages(history=True) if s.stage_id == "join"] == [
        (0, False),
        (1, True),
    ]


def test_a_run_of_another_process_can_be_rerun_by_its_id(database: Database) -> None:
    first = WorkflowExecutor(words, database=database)
    first.execute(Word(text="abc"))

    output = WorkflowExecutor(words, first.run_id, database=database).execute(from_stage="reverse")

    assert output == "CBA3"
    assert (calls["shout"], calls["reverse"], calls["measure"]) == (1, 2, 2)


def test_a_run_that_nobody_executes_goes_on_here(database_url: str, silent: Any) -> None:
    with WorkflowRuntime(words, database_url=database_url, dispatcher=silent) as runtime:
        run = runtime.create_run(words, Word(text="abc"))

        output = WorkflowExecutor(words, run.id, runtime=runtime).execute()

        assert (output, run.status) == ("CBA3", RunStatus.COMPLETED)


def test_other_runs_of_the_database_are_left_alone(database_url: str, silent: Any) -> None:
    with WorkflowRuntime(words, database_url=database_url, dispatcher=silent) as runtime:
        other = runtime.create_run(words, Word(text="x"))

        WorkflowExecutor(words, runtime=runtime).execute(Word(text="abc"))

        assert other.status is RunStatus.PENDING
        assert calls["shout"] == 1


def test_its_sweep_does_not_send_the_work_of_other_runs(clock: Any, turned: Any, silent: Any) -> None:
    waiting = Engine.build(
        settings=turned["settings"], registry=as_registry(words), dispatcher=silent, database=turned["database"]
    )
    script["succeeds_at"] = 3
    executor = WorkflowExecutor(retried, **turned)
    create_run(waiting, CreateRun(words, Word(text="x")))
    clock.sleep(timedelta(hours=1))

    executor.execute()
    sweep(executor.run._runs.engine, force=True)

    with turned["database"].pool.connect() as connection:
        numbers = connection.exec_driver_sql("SELECT dispatch_number FROM workflow_stages WHERE stage_id = 'shout'")
        assert numbers.scalars().all() == [1]
    waiting.keeper.stop()


def test_hints_of_other_runs_are_dropped_and_the_most_important_come_first(clock: Any) -> None:
    queue = HintQueue(clock)
    queue.dispatch([Hint(f"stage-run-{number}", 1, "mine", "s", "q", number) for number in (1, 9, 5)])
    queue.dispatch([Hint("foreign", 1, "other", "s", "q", 10)])
    queue.dispatch_later(Hint("later", 1, "mine", "s", "q", 10), timedelta(minutes=1))

    first, rest = queue.take("mine".__eq__, 2), queue.take("mine".__eq__, 9)
    clock.sleep(queue.time_left())
    later = queue.take("mine".__eq__, 9)

    assert [hint.stage_run_id for hint in first] == ["stage-run-9", "stage-run-5"]
    assert [hint.stage_run_id for hint in rest] == ["stage-run-1"]
    assert [hint.stage_run_id for hint in later] == ["later"]
    assert clock.elapsed >= timedelta(minutes=1)


def test_less_than_a_microsecond_before_a_hint_is_due_there_is_still_something_to_wait_for(clock: Any) -> None:
    queue = HintQueue(clock)
    clock.sleep(timedelta(hours=5, microseconds=3))
    queue.dispatch_later(Hint("later", 1, "mine", "s", "q", 10), timedelta(minutes=1))
    clock.sleep(queue.time_left())
    assert queue.take("mine".__eq__, 1) == []

    clock.sleep(queue.time_left())

    assert len(queue.take("mine".__eq__, 1)) == 1


def test_input_and_config_are_checked_before_anything_is_written() -> None:
    executor = WorkflowExecutor(words)

    with pytest.raises(InvalidDataError, match="text"):
        executor.execute({"texts": "abc"})
    with pytest.raises(InvalidDataError, match="shuot"):
        executor.execute(Word(text="abc"), {"shuot": {}})

    assert executor.run_id is None


def test_a_run_keeps_its_input_and_config() -> None:
    executor = WorkflowExecutor(words)
    executor.execute(Word(text="abc"))

    with pytest.raises(InvalidRequestError, match="has its input and config already"):
        executor.execute(Word(text="other"), from_stage=join)
    with pytest.raises(InvalidRequestError, match="has its input and config already"):
        executor.execute(Word(text="other"))


def test_a_rerun_needs_a_run_a_stage_and_what_came_before(turned: Any) -> None:
    with pytest.raises(InvalidRequestError, match="There is no run yet"):
        WorkflowExecutor(words).execute(from_stage=join)
    script["succeeds_at"] = 99
    two = WorkflowBuilder("two").pipe(flaky).pipe(stage(id="after")(shout_any)).build()
    executor = WorkflowExecutor(two, **turned)
    with pytest.raises(RunFailed):
        executor.execute()

    with pytest.raises(StageNotFoundError, match='Stage "jion" not found in workflow "two"'):
        executor.execute(from_stage="jion")
    with pytest.raises(RerunRefusedError, match=r'Cannot rerun from stage "after": no completed stages found before'):
        executor.execute(from_stage="after")


def shout_any(ctx: StageContext[int]) -> int:
    return ctx.input
