"""Contexts check what user code hands them and pass the rest to the port."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from workflow_engine.definition import (
    AnnotationKey,
    CancelContext,
    NoConfig,
    PollContext,
    StageContext,
    StageIdentity,
    StoredOutput,
    define_stage,
    stage,
)
from workflow_engine.errors import InvalidDataError, PayloadError, StageCancelled, StageOutputMissing, StageSkipped
from workflow_engine.lifecycle import StageStatus


class Labels(BaseModel):
    names: list[str]


@stage
def classify(ctx: StageContext[int]) -> Labels:
    return Labels(names=[])


@stage
def count(ctx: StageContext[int]) -> int | None:
    return 0


LANGUAGE = AnnotationKey("document.language", str)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.fixture
def ctx(port: Any, identity: StageIdentity) -> StageContext[int]:
    stages = {"classify": classify, "count": count}
    return StageContext(identity=identity, input=5, config=NoConfig(), stages=stages, port=port)


def test_a_context_knows_what_it_executes(ctx: StageContext[int]) -> None:
    assert (ctx.run_id, ctx.workflow_id, ctx.stage_id, ctx.stage_name) == ("run-1", "analysis", "merge", "Merge")
    assert (ctx.stage_run_id, ctx.attempt, ctx.generation, ctx.fence) == ("stage-run-1", 2, 1, 7)
    assert ctx.input == 5
    assert ctx.config == NoConfig()


def test_the_idempotency_key_does_not_change_with_the_attempt(ctx: StageContext[int]) -> None:
    assert ctx.idempotency_key == "run-1:1:merge"


def test_metadata_is_read_only(ctx: StageContext[int]) -> None:
    assert ctx.metadata == {"user": "u-1"}
    with pytest.raises(TypeError):
        ctx.metadata["user"] = "u-2"  # type: ignore[index] # the mistake


def test_a_context_shows_run_stage_and_attempt(ctx: StageContext[int]) -> None:
    assert repr(ctx) == "StageContext(stage 'merge' of run 'run-1', attempt 2)"


def test_a_required_output_is_parsed(ctx: StageContext[int], port: Any) -> None:
    port.complete("classify", '{"names": ["a"]}')

    assert ctx.require(classify) == Labels(names=["a"])
    assert ctx.require("classify") == Labels(names=["a"])


def test_each_reader_gets_its_own_copy(ctx: StageContext[int], port: Any) -> None:
    port.complete("classify", '{"names": ["a"]}')
    ctx.require(classify).names.append("b")

    assert ctx.require(classify) == Labels(names=["a"])


@pytest.mark.parametrize(("payload", "value"), [("0", 0), ("null", None)])
def test_falsy_outputs_are_outputs(ctx: StageContext[int], port: Any, payload: str, value: object) -> None:
    port.complete("count", payload)

    assert ctx.require(count) == value
    assert ctx.optional(count) == value


def test_an_output_of_an_unknown_definition_is_plain_json(ctx: StageContext[int], port: Any) -> None:
    port.complete("removed", '{"a": 1}')

    assert ctx.require("removed") == {"a": 1}


def test_a_missing_output_is_an_error_that_names_both_stages(ctx: StageContext[int]) -> None:
    with pytest.raises(
        StageOutputMissing, match=r'^Stage "merge" requires the output of stage "classify", which is no'
    ):
        ctx.require(classify)


@pytest.mark.parametrize("status", [StageStatus.RUNNING, StageStatus.FAILED, StageStatus.PENDING])
def test_an_output_that_is_not_complete_is_missing(ctx: StageContext[int], port: Any, status: StageStatus) -> None:
    port.outputs["classify"] = StoredOutput(status, '{"names": []}')

    with pytest.raises(StageOutputMissing, match=f"which is {status}"):
        ctx.require(classify)
    assert ctx.optional(classify) is None


def test_a_stage_that_the_workflow_does_not_have_is_named_with_the_nearest(ctx: StageContext[int]) -> None:
    with pytest.raises(
        StageOutputMissing,
        match=r'workflow "analysis" does not have \(did you mean "classify"\? stages: classify, count\)',
    ):
        ctx.require("clasify")


def test_a_misspelt_stage_is_no_optional_one(ctx: StageContext[int]) -> None:
    elsewhere = define_stage(id="elsewhere", execute=lambda _: 1, input=int, output=int)

    with pytest.raises(StageOutputMissing, match='did you mean "classify"'):
        ctx.optional("clasify")
    assert ctx.optional(elsewhere) is None


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (2, "which runs at the same time, in the same group 2"),
        (3, "which runs later, in group 3; outputs of groups before 2 can be had"),
        (1, "which is not there"),
    ],
)
def test_a_stage_that_has_no_output_yet_is_told_by_its_group(
    port: Any, identity: StageIdentity, place: int, reason: str
) -> None:
    groups = {identity.stage_id: 2, "classify": place}
    stages = {"classify": classify}
    ctx = StageContext(identity=identity, input=5, config=NoConfig(), stages=stages, port=port, groups=groups)

    with pytest.raises(StageOutputMissing, match=reason):
        ctx.require("classify")


def test_a_skipped_output_is_an_error_of_its_own(ctx: StageContext[int], port: Any) -> None:
    port.outputs["classify"] = StoredOutput(StageStatus.SKIPPED, None)

    with pytest.raises(StageSkipped, match='"classify", which was skipped'):
        ctx.require(classify)
    assert ctx.optional(classify) is None


def test_a_stored_output_that_no_longer_fits_is_reported(ctx: StageContext[int], port: Any) -> None:
    port.complete("classify", '{"names": 3}')

    with pytest.raises(InvalidDataError, match='Invalid output of stage "classify": names'):
        ctx.require(classify)


def test_progress_is_passed_on_as_plain_json(ctx: StageContext[int], port: Any) -> None:
    ctx.progress(1, "done", pages=(1, 2))

    assert port.calls == [(1.0, "done", {"pages": [1, 2]})]


@pytest.mark.parametrize("fraction", [-0.01, 1.01, math.nan, math.inf])
def test_progress_out_of_range_is_refused(ctx: StageContext[int], port: Any, fraction: float) -> None:
    with pytest.raises(ValueError, match="progress must be"):
        ctx.progress(fraction)

    assert port.calls == []


def test_cancellation_is_asked_for_each_time(ctx: StageContext[int], port: Any) -> None:
    assert not ctx.cancelled
    ctx.raise_if_cancelled()

    port.cancelled = True

    assert ctx.cancelled
    with pytest.raises(StageCancelled, match='Stage "merge" of run run-1'):
        ctx.raise_if_cancelled()


def test_annotations_are_plain_json_under_checked_names(ctx: StageContext[int], port: Any) -> None:
    ctx.annotate(LANGUAGE, "en")
    ctx.annotate("pages", (1, 2))

    assert port.calls == [("document.language", "en"), ("pages", [1, 2])]


def test_an_annotation_is_detached_from_the_callers_object(ctx: StageContext[int], port: Any) -> None:
    value = {"a": [1]}

    ctx.annotate("a.b", value)
    value["a"].append(2)

    assert port.calls == [("a.b", {"a": [1]})]


@pytest.mark.parametrize("key", ["", "a..b", ".a", "a b", "a/b", "é", "x" * 201])
def test_annotation_names_are_checked(ctx: StageContext[int], key: str) -> None:
    with pytest.raises(ValueError, match="must be words of letters"):
        ctx.annotate(key, 1)


def test_an_annotation_of_another_type_is_refused(ctx: StageContext[int]) -> None:
    with pytest.raises(InvalidDataError, match=r'Invalid annotation "document.language"'):
        ctx.annotate(LANGUAGE, ["en"])


def test_an_annotation_that_is_not_json_is_refused(ctx: StageContext[int]) -> None:
    with pytest.raises(PayloadError, match=r'annotation "a.b": nan'):
        ctx.annotate("a.b", math.nan)


def test_a_typed_key_needs_a_namespace() -> None:
    with pytest.raises(ValueError, match=r'like "document.language"'):
        AnnotationKey("language", str)


@pytest.mark.parametrize(
    ("cost", "recorded"),
    [(None, "0"), (0.1, "0.1"), (3, "3"), (Decimal("1.10"), "1.10")],
)
def test_costs_are_exact_decimals(ctx: StageContext[int], port: Any, cost: Any, recorded: str) -> None:
    ctx.report(cost=cost, tokens=5, pages=2)

    assert str(port.calls[0][0]) == recorded
    assert port.calls[0][1:] == (5, {"pages": 2})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"cost": -1}, ValueError),
        ({"cost": math.nan}, ValueError),
        ({"cost": Decimal("Infinity")}, ValueError),
        ({"cost": "1"}, TypeError),
        ({"cost": True}, TypeError),
        ({"tokens": -1}, ValueError),
        ({"tokens": 1.5}, TypeError),
        ({"pages": math.inf}, ValueError),
        ({"pages": "2"}, TypeError),
    ],
    ids=str,
)
def test_reports_that_are_no_amounts_are_refused(
    ctx: StageContext[int], port: Any, arguments: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        ctx.report(**arguments)

    assert port.calls == []


def test_log_lines_carry_level_message_and_fields(ctx: StageContext[int], port: Any) -> None:
    ctx.log.debug("a")
    ctx.log.info("b", url="x")
    ctx.log.warning("c", n=(1,))
    ctx.log.error("d")

    assert port.calls == [
        ("debug", "a", {}),
        ("info", "b", {"url": "x"}),
        ("warning", "c", {"n": [1]}),
        ("error", "d", {}),
    ]


def test_an_exception_is_logged_with_its_traceback(ctx: StageContext[int], port: Any) -> None:
    try:
        int("many")
    except ValueError:
        ctx.log.exception("it broke", step=1)

    level, message, fields = port.calls[0]
    assert (level, message, fields["step"]) == ("error", "it broke", 1)
    assert "ValueError: invalid literal" in fields["traceback"]


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        (math.nan, "nan"),
        (Labels(names=["a"]), "Labels(names=['a'])"),
        (Unprintable(), "<Unprintable whose repr raises RuntimeError>"),
        ({1: "x"}, "{1: 'x'}"),
        (b"x" * 3000, "b'" + "x" * 1998 + "…"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:20],
)
def test_fields_that_are_not_json_are_logged_as_text(
    ctx: StageContext[int], port: Any, value: object, logged: str
) -> None:
    ctx.log.info("seen", value=value)

    assert port.calls == [("info", "seen", {"value": logged})]


def test_a_message_that_is_no_text_is_logged_as_text(ctx: StageContext[int], port: Any) -> None:
    ctx.log.info(ValueError("x"))  # type: ignore[arg-type] # the mistake

    assert port.calls == [("info", "ValueError('x')", {})]


def test_a_poll_context_knows_the_suspension(port: Any, identity: StageIdentity) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    ctx = PollContext(
        identity=identity, state="s", config=NoConfig(), suspended_at=since, polls=3, stages={"count": count}, port=port
    )
    port.complete("count", "4")

    assert (ctx.state, ctx.config, ctx.suspended_at, ctx.polls) == ("s", NoConfig(), since, 3)
    assert ctx.require(count) == 4


def test_a_cancel_context_may_have_no_state(port: Any, identity: StageIdentity) -> None:
    ctx: CancelContext[str] = CancelContext(identity=identity, state=None, config=NoConfig(), port=port)

    ctx.log.info("stopping")

    assert ctx.state is None
    assert (ctx.run_id, ctx.stage_id, ctx.config) == ("run-1", "merge", NoConfig())
    assert port.calls == [("info", "stopping", {})]
