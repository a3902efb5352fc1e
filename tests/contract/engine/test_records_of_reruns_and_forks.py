"""What is recorded of a stage run is live, history or shared together with its output: reruns and forks, from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import step
from workflow_engine.definition import GroupOutput, Retry, WorkflowBuilder
from workflow_engine.errors import ArtifactNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def chain(*stages: Any) -> Any:
    builder: Any = WorkflowBuilder("chain", input=Any)
    for one in stages:
        builder = builder.parallel(*one) if isinstance(one, tuple) else builder.pipe(one)
    return builder.build()


def begin(start: Start, *stages: Any) -> tuple[WorkflowTester, Any]:
    workflow = chain(*stages)
    tester = start(workflow)
    run = tester.create_run(workflow, 0)
    tester.run_until_idle()
    return tester, run


def rerun(tester: WorkflowTester, run: Any, **options: Any) -> None:
    tester.rerun(run.id, **options)
    tester.run_until_idle()


def save_once(ctx: Any) -> str:
    """Do the work only where its result is not stored yet, as bodies do that may be tried again."""
    if ctx.storage.exists("page"):
        return f"found {ctx.storage.load('page')}"
    ctx.storage.save("page", ctx.generation)
    return f"saved {ctx.generation}"


def share(ctx: Any) -> int:
    ctx.storage.shared.save("report", f"{ctx.stage_id} {ctx.generation}")
    return int(ctx.generation)


def load_shared(ctx: Any) -> Any:
    return ctx.storage.shared.load("report")


def shown(entries: Any) -> list[tuple[Any, ...]]:
    return [(entry.stage_id, entry.key, entry.written_by, entry.generation, entry.is_live) for entry in entries]


def test_a_rerun_does_not_find_what_the_superseded_stage_run_saved(start: Start) -> None:
    tester, run = begin(start, step("a", save_once))
    first = run.output()

    rerun(tester, run, from_stage="a")

    assert (first, run.output()) == ("saved 0", "saved 1")
    assert shown(run.list_artifacts()) == [("a", "page", "a", 1, True)]
    assert shown(run.list_artifacts(history=True)) == [("a", "page", "a", 0, False), ("a", "page", "a", 1, True)]
    assert [tester.get_artifact(run.id, "page", stage="a", generation=one) for one in (0, 1, None)] == [0, 1, 1]
    with pytest.raises(ArtifactNotFoundError, match="of generation 2"):
        tester.get_artifact(run.id, "page", stage="a", generation=2)


def test_a_later_attempt_finds_what_an_earlier_one_of_the_same_stage_run_saved(start: Start) -> None:
    def body(ctx: Any) -> Any:
        result = save_once(ctx)
        if ctx.attempt == 1:
            raise ConnectionError
        return result, ctx.storage.delete("page"), ctx.storage.exists("page"), ctx.storage.list()

    tester, run = begin(start, step("a", body))
    tester.run_to_end(run)

    rerun(tester, run, from_stage="a")
    tester.run_to_end(run)

    assert run.output() == ["found 1", True, False, []]
    assert shown(run.list_artifacts(history=True)) == []


def test_what_was_replaced_in_a_rerun_is_replaced_in_that_stage_run_only(start: Start) -> None:
    def body(ctx: Any) -> list[str]:
        for number in range(2):
            ctx.storage.save("k", f"{ctx.generation} own {number}")
            ctx.storage.shared.save("k", f"{ctx.generation} shared {number}")
        return list(ctx.storage.list() + ctx.storage.shared.list())

    tester, run = begin(start, step("a", body))
    rerun(tester, run, from_stage="a")

    assert run.output() == ["k", "k"]
    assert [tester.get_artifact(run.id, "k", stage="a", generation=one) for one in (0, 1)] == ["0 own 1", "1 own 1"]
    assert [tester.get_artifact(run.id, "k", generation=one) for one in (0, 1)] == ["0 shared 1", "1 shared 1"]


def test_siblings_that_a_rerun_keeps_keep_what_is_recorded_of_them(start: Start) -> None:
    def body(ctx: Any) -> str:
        ctx.log.info(" ".join((ctx.stage_id, str(ctx.generation))))
        ctx.annotate("seen", ctx.generation)
        return save_once(ctx)

    tester, run = begin(start, (step("a", body), step("b", body)), step("c", lambda _: 1, takes=GroupOutput))

    rerun(tester, run, from_stage="a", only=True)

    assert shown(run.list_artifacts()) == [("a", "page", "a", 1, True), ("b", "page", "b", 0, True)]
    assert sorted(entry.message for entry in run.list_logs().items) == ["a 1", "b 0"]
    assert sorted((entry.stage_id, entry.value) for entry in tester.list_annotations(run.id)) == [("a", 1), ("b", 0)]
    assert sorted(entry.message for entry in run.list_logs(history=True).items) == ["a 0", "a 1", "b 0"]
    assert len(tester.list_annotations(run.id, history=True)) == 3
    assert [entry.value for entry in tester.list_annotations(run.id, stage="a", generation=0)] == [0]


def test_of_a_shared_key_the_value_counts_that_a_live_stage_run_saved_last(start: Start) -> None:
    broken: list[int] = []

    def fragile(ctx: Any) -> Any:
        if broken:
            raise ValueError
        return share(ctx)

    once = Retry(max_attempts=1)
    tester, run = begin(start, step("a", share), step("b", fragile, retry=once), step("c", load_shared))
    first = run.output()
    broken.append(1)

    rerun(tester, run, from_stage="b")

    assert first == "b 0"
    assert tester.get_artifact(run.id, "report") == "a 0"
    assert shown(run.list_artifacts()) == [(None, "report", "a", 0, True)]
    assert shown(run.list_artifacts(history=True)) == [
        (None, "report", "a", 0, True), (None, "report", "b", 0, False),
    ]  # fmt: skip


def test_a_failed_rerun_does_not_show_the_old_report(start: Start) -> None:
    broken: list[int] = []

    def report(ctx: Any) -> Any:
        if broken:
            raise ValueError
        return share(ctx)

    tester, run = begin(start, step("a", report, retry=Retry(max_attempts=1)))
    broken.append(1)

    rerun(tester, run, from_stage="a")

    assert run.list_artifacts() == []
    with pytest.raises(ArtifactNotFoundError):
        tester.get_artifact(run.id, "report")
    assert tester.get_artifact(run.id, "report", generation=0) == "a 0"


def test_a_shared_value_that_a_later_stage_deleted_is_back_when_that_stage_is_superseded(start: Start) -> None:
    def remove(ctx: Any) -> Any:
        shared = ctx.storage.shared
        if ctx.generation:
            return shared.load("report")
        deleted = [shared.delete("report"), shared.delete("report")]
        return [*deleted, shared.exists("report"), shared.list()]

    tester, run = begin(start, step("a", share), step("b", remove))
    first, before = run.output(), run.list_artifacts()

    rerun(tester, run, from_stage="b")

    assert first == [True, False, False, []]
    assert before == []
    assert run.output() == "a 0"


def test_a_shared_value_can_be_saved_again_after_it_was_deleted(start: Start) -> None:
    def replace(ctx: Any) -> Any:
        shared = ctx.storage.shared
        shared.delete("report")
        shared.save("report", "new")
        return shared.load("report"), shared.list()

    _, run = begin(start, step("a", share), step("b", replace))

    assert run.output() == ["new", ["report"]]
    assert shown(run.list_artifacts()) == [(None, "report", "b", 0, True)]


def test_own_and_shared_values_of_one_key_are_kept_apart_in_every_generation(start: Start) -> None:
    def body(ctx: Any) -> Any:
        ctx.storage.save("k", "own")
        if ctx.generation:
            return ctx.storage.shared.exists("k"), ctx.storage.load("k")
        ctx.storage.shared.save("k", "shared")
        return None

    tester, run = begin(start, step("a", body))
    rerun(tester, run, from_stage="a")

    assert run.output() == [False, "own"]


def recorded(ctx: Any) -> int:
    ctx.storage.save("page", "own")
    ctx.storage.shared.save("report", "shared")
    ctx.log.info("a line")
    ctx.annotate("seen", 1)
    ctx.report(cost=2, tokens=3, rows=7)
    return 5


def what_is_there(tester: WorkflowTester, run: Any) -> tuple[Any, ...]:
    return (
        tester.get_artifact(run.id, "page", stage="a"),
        tester.get_artifact(run.id, "report"),
        [entry.key for entry in run.list_artifacts()],
        [entry.message for entry in run.list_logs("a").items],
        [entry.value for entry in tester.list_annotations(run.id)],
        [entry.attempt for entry in tester.list_attempts(run.id, "a")],
        run.list_stages()[0].metrics,
    )


ALL_OF_IT = ("own", "shared", ["report", "page"], ["a line"], [1], [1], {"rows": 7})


def test_a_fork_has_what_is_recorded_of_the_stage_runs_that_it_shares(start: Start) -> None:
    tester, run = begin(start, step("a", recorded), step("b", load_shared))

    fork = tester.fork(run.id, from_stage="b")
    again = tester.fork(fork.id, from_stage="b")
    tester.run_until_idle()

    assert (fork.output(), again.output()) == ("shared", "shared")
    assert what_is_there(tester, fork) == what_is_there(tester, again) == ALL_OF_IT
    assert (int(fork.snapshot().total_cost), int(run.snapshot().total_cost)) == (0, 2)
    assert shown(fork.list_artifacts()) == [(None, "report", "a", 0, True), ("a", "page", "a", 0, True)]


def test_a_fork_keeps_what_it_shares_when_the_run_is_rerun(start: Start) -> None:
    def body(ctx: Any) -> int:
        return recorded(ctx) if ctx.generation == 0 else 6

    tester, run = begin(start, step("a", body), step("b", lambda _: 1))
    fork = tester.fork(run.id, from_stage="b")

    rerun(tester, run, from_stage="a")

    assert what_is_there(tester, fork) == ALL_OF_IT
    assert run.list_artifacts() == []


def test_what_a_fork_writes_is_its_own(start: Start) -> None:
    def body(ctx: Any) -> Any:
        before = ctx.storage.shared.load("report")
        share(ctx)
        return before, save_once(ctx)

    tester, run = begin(start, step("a", share), step("b", body))

    fork = tester.fork(run.id, from_stage="b")
    tester.run_until_idle()

    assert run.output() == fork.output() == ["a 0", "saved 0"]
    assert shown(run.list_artifacts(history=True)) == shown(fork.list_artifacts(history=True))


def test_a_fork_that_is_rerun_from_the_start_shares_nothing_any_more(start: Start) -> None:
    tester, run = begin(start, step("a", save_once), step("b", lambda ctx: ctx.require("a"), takes=Any))
    fork = tester.fork(run.id, from_stage="b")
    tester.run_until_idle()

    rerun(tester, fork, from_stage="a")

    assert fork.output() == "saved 1"
    assert shown(fork.list_artifacts(history=True)) == [("a", "page", "a", 0, False), ("a", "page", "a", 1, True)]


def test_a_fork_that_deletes_what_it_shares_leaves_the_other_run_alone(start: Start) -> None:
    tester, run = begin(start, step("a", share), step("b", lambda ctx: ctx.storage.shared.exists("report")))
    forks = [tester.fork(run.id, from_stage="b") for _ in range(2)]
    stages = (step("a", share), step("b", lambda ctx: ctx.storage.shared.delete("report")))
    deleting = tester.new_engine(chain(*stages))

    tester.deliver(next(hint for hint in tester.messages.waiting if hint.run_id == forks[0].id), engine=deleting)
    tester.run_until_idle()

    assert [one.output() for one in (run, *forks)] == [True, True, True]
    assert [len(one.list_artifacts()) for one in (run, *forks)] == [1, 0, 1]


def test_what_0_1_0_overwrote_belongs_to_the_stage_run_that_wrote_last(start: Start) -> None:
    """An old worker knows one row for each key of a stage, and takes it over from the superseded stage run."""

    def body(ctx: Any) -> Any:
        if ctx.generation == 0:
            return save_once(ctx)
        old = (
            "INSERT INTO workflow_artifacts (run_id, scope, key, payload, stage_run_id, fence, created_at, updated_at) "
            f"VALUES ('{ctx.run_id}', 'a', 'page', '7', '{ctx.stage_run_id}', 1, 1, workflow_now()) "
            "ON CONFLICT (run_id, scope, key) DO UPDATE SET payload = excluded.payload, "
            "stage_run_id = excluded.stage_run_id, fence = excluded.fence, updated_at = excluded.updated_at"
        )
        tester.database.transact(lambda tx: tx.exec_driver_sql(old))
        return save_once(ctx)

    tester, run = begin(start, step("a", body))

    rerun(tester, run, from_stage="a")

    assert run.output() == "found 7"
    assert shown(run.list_artifacts()) == [("a", "page", "a", 1, True)]


def test_a_deletion_whose_answer_was_lost_tells_that_it_was_there(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(ctx: Any) -> Any:
        save_once(ctx)
        original = tester.database.transact

        def twice(work: Any) -> Any:
            original(work)
            return original(work)

        monkeypatch.setattr(tester.database, "transact", twice)
        told = [ctx.storage.delete("page"), ctx.storage.delete("page")]
        monkeypatch.setattr(tester.database, "transact", original)
        return told

    workflow = chain(step("a", body))
    tester = start(workflow)
    run = tester.create_run(workflow, 0)
    tester.run_until_idle()

    assert run.output() == [True, False]


def test_annotations_from_outside_belong_to_the_run_and_stay(start: Start) -> None:
    tester, run = begin(start, step("a", lambda _: 1))
    tester.annotate(run.id, "note", "kept")

    rerun(tester, run, from_stage="a")

    assert [entry.value for entry in tester.list_annotations(run.id)] == ["kept"]


def test_attempts_of_earlier_generations_are_history(start: Start) -> None:
    tester, run = begin(start, step("a", lambda _: 1))
    first = tester.list_attempts(run.id, "a")

    rerun(tester, run, from_stage="a")

    live, history = tester.list_attempts(run.id, "a"), tester.list_attempts(run.id, "a", history=True)
    assert len(live) == 1
    assert history == first + live
