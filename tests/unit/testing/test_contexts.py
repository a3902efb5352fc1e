"""Contexts of unit tests: what they answer, what they check, what they record."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_engine import (
    AnnotationKey,
    CancelContext,
    ChildRun,
    GroupOutput,
    NoInput,
    Pending,
    PollContext,
    StageContext,
    Suspend,
    WorkflowBuilder,
    define_async_batch_stage,
    stage,
)
from workflow_engine.errors import (
    ArtifactNotFoundError,
    InvalidDataError,
    InvalidRequestError,
    PayloadError,
    StageCancelled,
    StageOutputMissing,
    StageSkipped,
)
from workflow_engine.testing import Recorded, cancel_context, poll_context, stage_context


class Document(BaseModel):
    text: str


class Labels(BaseModel):
    names: list[str]


class Limits(BaseModel):
    most: int = 100
    unit: str = "words"


LANGUAGE = AnnotationKey("document.language", str)


@stage
def classify(ctx: StageContext[Document]) -> Labels:
    return Labels(names=ctx.input.text.split())


@stage
def count(ctx: StageContext[Document, Limits]) -> int:
    return min(len(ctx.input.text.split()), ctx.config.most)


@stage
def merge(ctx: StageContext[NoInput]) -> str:
    return f"{ctx.require(count)} {ctx.optional(classify)}"


@stage
def join(ctx: StageContext[GroupOutput]) -> str:
    return f"{ctx.input[count]} {ctx.input.get(classify)}"


documents = WorkflowBuilder("documents", input=Document).pipe(classify).build()


def test_a_body_is_called_with_an_input_and_no_more() -> None:
    ctx = stage_context(Document(text="a b"))

    assert classify(ctx) == Labels(names=["a", "b"])
    assert (ctx.input, ctx.attempt, ctx.generation, ctx.cancelled) == (Document(text="a b"), 1, 0, False)


def test_the_stage_parses_the_input_and_fills_in_the_config() -> None:
    ctx: StageContext[Any, Limits] = stage_context({"text": "a b c"}, stage=count, config={"most": 2})

    assert count(ctx) == 2
    assert (ctx.input, ctx.config) == (Document(text="a b c"), Limits(most=2))
    assert (ctx.stage_id, ctx.stage_name) == ("count", "Count")
    assert stage_context({"text": "a"}, stage=count).config == Limits()


def test_what_a_body_does_to_its_input_does_not_reach_the_object_of_the_test() -> None:
    given = Labels(names=["a"])

    @stage
    def change(ctx: StageContext[Labels]) -> int:
        ctx.input.names.append("b")
        return len(ctx.input.names)

    assert (change(stage_context(given, stage=change)), given.names) == (2, ["a"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"input": {"texts": "a"}}, 'input of stage "count"'),
        ({"input": None}, 'input of stage "count"'),
        ({"input": {"text": "a"}, "config": {"most": "many"}}, 'config of stage "count"'),
        ({"input": {"text": "a"}, "config": {"least": 1}}, 'config of stage "count"'),
        ({"input": {"text": "a"}, "outputs": {classify: Document(text="a")}}, 'output of stage "classify"'),
    ],
)
def test_what_no_run_could_have_is_refused(options: Any, named: str) -> None:
    with pytest.raises(InvalidDataError, match=named):
        stage_context(stage=count, **options)


def test_an_output_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(PayloadError, match='output of stage "other"'):
        stage_context("a", outputs={"other": object()})


def test_outputs_of_other_stages_are_given_by_stage_or_id() -> None:
    both = stage_context(stage=merge, outputs={count: 2, classify: {"names": ["a"]}})
    by_id = stage_context(stage=merge, outputs={"count": 2, "classify": Labels(names=["a"])})
    one = stage_context(stage=merge, outputs={count: 2})

    assert merge(both) == merge(by_id) == "2 names=['a']"
    assert merge(one) == "2 None"
    assert isinstance(both.input, NoInput)
    assert both.require("classify") == Labels(names=["a"])
    assert by_id.require("classify") == {"names": ["a"]}
    assert one.optional("misspelt") is None


def test_an_output_that_is_not_given_is_missing_and_one_that_was_skipped_is_skipped() -> None:
    with pytest.raises(StageOutputMissing, match=r"which the test does not give: pass outputs=\{count: …\}"):
        merge(stage_context(stage=merge))
    with pytest.raises(StageSkipped, match='"count", which was skipped'):
        merge(stage_context(stage=merge, skipped=[count]))
    assert merge(stage_context(stage=merge, outputs={count: 1}, skipped=["classify"])) == "1 None"


@pytest.mark.parametrize("given", [{count: 2, classify: Labels(names=[])}, {"count": 2, classify: {"names": []}}])
def test_a_stage_that_takes_a_group_gets_the_outputs_of_its_members(given: Any) -> None:
    assert join(stage_context(given, stage=join)) == "2 names=[]"
    assert isinstance(stage_context(given).input, GroupOutput)
    with pytest.raises(KeyError):
        join(stage_context({}, stage=join))


def test_what_a_body_does_is_recorded() -> None:
    ctx = stage_context("a", metadata={"user": "u-1"}, run_id="run-7", attempt=2, generation=1)

    ctx.log.warning("slow", seconds=4)
    ctx.progress(0.5, "half", page=3)
    ctx.annotate(LANGUAGE, "en")
    ctx.report(cost=Decimal("0.25"), tokens=7, pages=1)
    ctx.report(cost=1, pages=2)

    recorded = ctx.recorded
    assert isinstance(recorded, Recorded)
    assert recorded.logs == [("warning", "slow", {"seconds": 4})]
    assert recorded.logs[0].fields["seconds"] == 4
    assert recorded.progress == [(0.5, "half", {"page": 3})]
    assert recorded.annotations == [("document.language", "en")]
    assert (recorded.cost, recorded.tokens, recorded.metrics) == (Decimal("1.25"), 7, {"pages": 2})
    assert (ctx.metadata, ctx.run_id, ctx.idempotency_key) == ({"user": "u-1"}, "run-7", "run-7:1:stage")


def test_artifacts_are_kept_for_the_body_and_shown_to_the_test() -> None:
    ctx = stage_context("a")

    ctx.storage.save("labels/1.json", Labels(names=["a"]))
    ctx.storage.save("labels/2.json", 2)
    ctx.storage.shared.save("all", [1])

    assert ctx.storage.load("labels/1.json", Labels) == Labels(names=["a"])
    assert ctx.storage.list("labels/") == ["labels/1.json", "labels/2.json"]
    assert (ctx.storage.delete("labels/2.json"), ctx.storage.delete("labels/2.json")) == (True, False)
    assert ctx.recorded.artifacts == {"labels/1.json": {"names": ["a"]}}
    assert ctx.recorded.shared_artifacts == {"all": [1]}
    with pytest.raises(ArtifactNotFoundError):
        ctx.storage.shared.load("labels/1.json")


def test_created_runs_are_recorded_and_checked() -> None:
    ctx = stage_context("a")

    one = ctx.create_run(documents, Document(text="a"), key="1", priority=7)
    again = ctx.create_run(documents, Document(text="a"), key="1")
    other = ctx.create_run("invoices", {"number": 1})

    assert one == ChildRun("documents-1", "documents", is_new=True)
    assert again == ChildRun("documents-1", "documents", is_new=False)
    assert (other.workflow_id, other.is_new) == ("invoices", True)
    assert [run.input for run in ctx.recorded.created_runs] == [Document(text="a")] * 2 + [{"number": 1}]
    assert ctx.recorded.created_runs[0].priority == 7
    with pytest.raises(InvalidDataError, match='input of workflow "documents"'):
        ctx.create_run(documents, {"texts": "a"}, key="2")
    with pytest.raises(InvalidDataError, match="config"):
        ctx.create_run(documents, Document(text="a"), key="3", config={"nobody": {}})


def test_runs_that_an_earlier_attempt_created_are_found() -> None:
    ctx = stage_context("a", attempt=2, created_before={"page-1": "run-77", "invoices": "run-78"})

    assert ctx.create_run(documents, Document(text="a"), key="page-1") == ChildRun("run-77", "documents", is_new=False)
    assert ctx.create_run(documents, Document(text="a"), key="page-2").is_new
    assert ctx.create_run("invoices") == ChildRun("run-78", "invoices", is_new=False)


def test_tokens_are_recorded() -> None:
    ctx = stage_context("a")

    made = [ctx.callback_token(), ctx.callback_token(valid_for=timedelta(hours=1))]

    assert made == ctx.recorded.callback_tokens
    assert len(set(made)) == 2


@pytest.mark.parametrize("valid_for", [timedelta(0), timedelta(seconds=-1), 60, None])
def test_a_token_is_valid_for_a_positive_duration(valid_for: Any) -> None:
    with pytest.raises(InvalidRequestError, match="valid_for"):
        stage_context("a").callback_token(valid_for=valid_for)


def test_a_test_says_when_the_run_is_cancelled() -> None:
    ctx = stage_context("a")
    before = ctx.cancelled

    ctx.cancelled = True

    assert (before, ctx.cancelled) == (False, True)
    with pytest.raises(StageCancelled):
        ctx.raise_if_cancelled()


def test_an_async_body_is_awaited_by_the_test() -> None:
    @stage
    async def shout(ctx: StageContext[str]) -> str:
        await asyncio.sleep(0)
        return ctx.input.upper()

    assert asyncio.run(shout(stage_context("a"))) == "A"


class Job(BaseModel):
    job_id: str


def fetched(ctx: PollContext[Job, Limits]) -> Labels | Pending:
    if ctx.polls < ctx.config.most:
        return Pending()
    return Labels(names=[ctx.state.job_id, str(ctx.suspended_at.year)])


def stop(ctx: CancelContext[Job, Limits]) -> None:
    ctx.log.info("stopped", job=ctx.state and ctx.state.job_id)


submit = define_async_batch_stage(
    id="submit",
    execute=lambda ctx: Suspend(Job(job_id=ctx.input.text)),
    check=fetched,
    on_cancel=stop,
    input=Document,
    output=Labels,
    state=Job,
    config=Limits,
)


def test_a_poll_is_called_with_a_state() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)

    early = fetched(poll_context(Job(job_id="j"), stage=submit))
    late: Any = poll_context({"job_id": "j"}, stage=submit, config={"most": 3}, polls=3, suspended_at=since)

    assert early == Pending()
    assert fetched(late) == Labels(names=["j", "2026"])
    assert poll_context("s").suspended_at.tzinfo is UTC
    with pytest.raises(InvalidDataError, match='suspended state of stage "submit"'):
        poll_context({"job": "j"}, stage=submit)


def test_a_cancel_hook_is_called_with_a_state_or_none() -> None:
    with_state, without = cancel_context(Job(job_id="j"), stage=submit), cancel_context(stage=submit)

    stop(with_state)
    stop(without)

    assert with_state.recorded.logs == [("info", "stopped", {"job": "j"})]
    assert without.recorded.logs == [("info", "stopped", {"job": None})]


def test_contexts_of_tests_need_neither_database_nor_broker() -> None:
    check = (
        "import sys; from workflow_engine.testing import stage_context; stage_context('a'); "
        "print([name for name in ('sqlalchemy', 'celery', 'redis', 'pytest') if name in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
