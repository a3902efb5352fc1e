"""Stages are read from annotations or given explicitly."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import FrozenInstanceError
from datetime import timedelta
from pathlib import Path
from typing import Any, Union

import pytest
from pydantic import BaseModel, Field

from workflow_engine.definition import (
    CancelContext,
    GroupOutput,
    NoConfig,
    NoInput,
    Pending,
    PollContext,
    Retry,
    Stage,
    StageContext,
    Suspend,
    UntilRuns,
    define_async_batch_stage,
    define_stage,
    stage,
)
from workflow_engine.definition.stages.stage import hash_json
from workflow_engine.definition.waits import Wait
from workflow_engine.errors import DefinitionError


class Text(BaseModel):
    body: str


class Labels(BaseModel):
    names: list[str]


class Ref(BaseModel):
    id: str


class OtherRef(BaseModel):
    id: str


class Limits(BaseModel):
    most: int = 5


class TightLimits(Limits):
    least: int = 1


def body(ctx: StageContext[Text, Limits]) -> Labels:
    """Find the labels
    of a text.

    More prose.
    """
    return Labels(names=[ctx.input.body])


async def async_body(ctx: StageContext[Text, Limits]) -> Labels:
    return Labels(names=[ctx.input.body])


def suspending(ctx: StageContext[Text, Limits]) -> Suspend[Ref]:
    return Suspend(Ref(id="1"))


def maybe_suspending(ctx: StageContext[Text, Limits]) -> Suspend[Ref] | Labels:
    return Suspend(Ref(id="1"))


class Noon(Wait[int]):
    kind = "noon"
    state_type = float


def waiting(ctx: StageContext[Text]) -> UntilRuns:
    return Suspend.until_runs("run-1")


def poll(ctx: PollContext[Ref, Limits]) -> Labels | Pending:
    return Pending()


async def async_poll(ctx: PollContext[Ref]) -> Labels | Pending:
    return Pending()


def stop(ctx: CancelContext[Ref, Limits]) -> None: ...


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(DefinitionError) as caught:
        make()
    return str(caught.value)


def types_of(made: Stage[Any, Any]) -> tuple[Any, ...]:
    return made.input.type, made.config.type, made.output.type, made.state.type if made.state else None


class TestReadingAnnotations:
    def test_a_plain_function(self) -> None:
        made = stage(body)

        assert types_of(made) == (Text, Limits, Labels, None)
        assert (made.is_async, made.poll, made.poll_is_async) == (False, None, False)
        assert (made.takes_input, made.takes_group) == (True, False)

    def test_an_async_function(self) -> None:
        made = stage(async_body)

        assert types_of(made) == (Text, Limits, Labels, None)
        assert made.is_async

    def test_a_stage_without_config_has_none(self) -> None:
        assert stage(waiting).config.type is NoConfig

    def test_an_awaitable_is_unwrapped(self) -> None:
        def start(ctx: StageContext[Text]) -> Awaitable[Labels]:
            return async_body(ctx)  # type: ignore[arg-type] # never run

        def begin(ctx: StageContext[Text]) -> Coroutine[Any, Any, Labels]:
            return async_body(ctx)  # type: ignore[arg-type] # never run

        assert stage(start).output.type is Labels
        assert stage(begin).output.type is Labels

    def test_a_body_that_only_suspends_takes_its_output_from_the_poll(self) -> None:
        made = stage(poll=poll)(suspending)

        assert types_of(made) == (Text, Limits, Labels, Ref)
        assert (made.poll, made.poll_is_async) == (poll, False)

    def test_a_body_that_may_suspend(self) -> None:
        made = stage(poll=async_poll)(maybe_suspending)

        assert types_of(made) == (Text, Limits, Labels, Ref)
        assert made.poll_is_async

    def test_old_unions_are_read_like_new_ones(self) -> None:
        def old(ctx: StageContext[Text]) -> Union[Suspend[Ref], Labels]:  # noqa: UP007 - on purpose
            return Labels(names=[])

        assert types_of(stage(poll=async_poll)(old)) == (Text, NoConfig, Labels, Ref)

    def test_a_union_of_outputs_stays_one(self) -> None:
        def either(ctx: StageContext[Text]) -> Labels | Text | None:
            return None

        assert stage(either).output.type == Labels | Text | None

    def test_a_body_that_waits_for_runs_returns_their_outputs(self) -> None:
        made = stage(waiting)

        assert types_of(made) == (Text, NoConfig, dict[str, Any], tuple[str, ...])
        assert made.poll is None

    def test_a_body_that_returns_any_suspension_that_the_engine_ends_needs_no_poll(self) -> None:
        def noon(ctx: StageContext[Text]) -> Suspend[Noon]:
            return Suspend(Noon())

        async def noon_or_runs(ctx: StageContext[Text]) -> Suspend[Noon] | UntilRuns:
            return Suspend(Noon())

        assert types_of(stage(noon)) == (Text, NoConfig, int, float)
        assert types_of(stage(noon_or_runs)) == (
            *(Text, NoConfig),
            int | dict[str, Any],
            float | tuple[str, ...],
        )

    def test_no_input_and_group_output_are_recognized(self) -> None:
        def alone(ctx: StageContext[NoInput]) -> int:
            return 1

        def after_group(ctx: StageContext[GroupOutput]) -> int:
            return 1

        assert (stage(alone).takes_input, stage(alone).takes_group) == (False, False)
        assert (stage(after_group).takes_input, stage(after_group).takes_group) == (True, True)

    def test_none_is_an_output(self) -> None:
        def nothing(ctx: StageContext[Text]) -> None: ...

        assert stage(nothing).output.type is type(None)

    def test_methods_and_partials_are_functions_too(self) -> None:
        class Service:
            def label(self, ctx: StageContext[Text]) -> Labels:
                return Labels(names=[])

            def __call__(self, ctx: StageContext[Text]) -> Labels:
                return Labels(names=[])

        def with_option(ctx: StageContext[Text], *, shout: bool) -> Labels:
            return Labels(names=[str(shout)])

        assert stage(Service().label).id == "label"
        assert types_of(stage(id="service")(Service())) == (Text, NoConfig, Labels, None)
        assert types_of(stage(id="partial")(functools.partial(with_option, shout=True)))[0] is Text


class TestOptions:
    def test_the_defaults(self) -> None:
        made = stage(body)

        assert (made.id, made.name, made.description, made.version) == (
            "body",
            "Body",
            "Find the labels of a text.",
            "1",
        )
        assert (made.retry, made.max_crashes, made.poll_timeout) == (Retry(), 3, timedelta(seconds=60))
        assert (made.timeout, made.queue_timeout, made.poll_interval, made.max_wait, made.queue) == (None,) * 5
        assert (made.skip_if, made.on_cancel, made.estimate_cost, made.dependencies) == (None, None, None, ())

    def test_what_is_given_wins(self) -> None:
        made = stage(
            id="find-labels",
            description="Other prose",
            dependencies=[stage(async_body), "extract", "extract"],
            queue="gpu",
            on_cancel=stop,
            max_crashes=1,
            timeout=timedelta(seconds=5),
        )(body)

        assert (made.id, made.name, made.description) == ("find-labels", "Find labels", "Other prose")
        assert made.dependencies == ("async_body", "extract")
        assert (made.queue, made.on_cancel, made.max_crashes, made.timeout) == ("gpu", stop, 1, timedelta(seconds=5))


class TestRunTimeDefinitions:
    def test_explicit_schemas_win_over_annotations(self) -> None:
        made = define_stage(id="x", execute=body, input=dict[str, int], output=int, config=TightLimits)  # type: ignore[arg-type]

        assert types_of(made) == (dict[str, int], TightLimits, int, None)

    def test_annotations_fill_what_is_not_given(self) -> None:
        assert types_of(define_stage(id="x", execute=body)) == (Text, Limits, Labels, None)
        assert types_of(define_stage(id="x", execute=body, config=TightLimits)) == (Text, TightLimits, Labels, None)

    def test_explicit_schemas_need_no_annotations(self) -> None:
        made = define_stage(id="x", execute=lambda _: Labels(names=[]), input=Text, output=Labels)

        assert types_of(made) == (Text, NoConfig, Labels, None)

    def test_missing_schemas_and_annotations_are_refused(self) -> None:
        message = refusal(lambda: define_stage(id="x", execute=lambda _: 1, input=Text))

        assert message.startswith('stage "x": annotate the parameter')

    def test_a_batch_stage_from_annotations(self) -> None:
        made = define_async_batch_stage(id="x", execute=suspending, check=async_poll, max_wait=timedelta(days=2))

        assert types_of(made) == (Text, Limits, Labels, Ref)
        assert (made.poll, made.poll_is_async, made.max_wait) == (async_poll, True, timedelta(days=2))

    def test_a_batch_stage_from_explicit_schemas(self) -> None:
        made = define_async_batch_stage(
            id="x",
            execute=lambda _: Suspend(Ref(id="1")),
            check=lambda _: Pending(),
            input=Text,
            output=Labels,
            state=Ref,
            config=Limits,
        )

        assert types_of(made) == (Text, Limits, Labels, Ref)

    def test_a_batch_stage_with_another_state_in_its_check_is_refused(self) -> None:
        message = refusal(lambda: define_async_batch_stage(id="x", execute=suspending, check=poll, state=OtherRef))

        assert message == 'stage "x" suspends with OtherRef but its poll takes Ref'


class TestAStage:
    def test_it_stays_callable(self) -> None:
        context = Text(body="a")

        assert stage(lambda_stage).body is lambda_stage
        assert stage(lambda_stage)(context) == "a"  # type: ignore[arg-type] # anything with the attributes will do
        assert inspect.iscoroutinefunction(stage(async_body).body)
        assert asyncio.run(stage(async_lambda)(context)) == "a"  # type: ignore[arg-type] # same

    def test_it_looks_like_its_body(self) -> None:
        made: Any = stage(body)

        assert made.__name__ == "body"
        assert made.__doc__ == body.__doc__
        assert repr(made) == "Stage('body': Text -> Labels)"

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(FrozenInstanceError):
            stage(body).id = "other"  # type: ignore[misc] # the mistake

    def test_it_is_equal_to_itself_only_and_copies_are_itself(self) -> None:
        made = stage(body)

        assert made != stage(body)
        assert len({made, made, stage(body)}) == 2
        assert copy.copy(made) is made
        assert copy.deepcopy([made])[0] is made


def lambda_stage(ctx: StageContext[Text]) -> str:
    return ctx.body  # type: ignore[attr-defined, no-any-return] # called with a stand-in


async def async_lambda(ctx: StageContext[Text]) -> str:
    return ctx.body  # type: ignore[attr-defined, no-any-return] # same


class Described(BaseModel):
    """Some prose."""

    body: str = Field(description="Prose, too", title="Prose")


class TestFingerprint:
    def test_it_does_not_depend_on_the_order_of_keys(self) -> None:
        assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1}) != hash_json({"a": 2, "b": 1})

    def test_it_is_the_same_for_the_same_definition(self) -> None:
        assert stage(body).fingerprint == stage(body).fingerprint
        assert stage(name="Other", queue="gpu")(body).fingerprint == stage(body).fingerprint

    def test_it_changes_with_id_version_and_schemas(self) -> None:
        made = {
            stage(body).fingerprint,
            stage(id="other")(body).fingerprint,
            stage(version="2")(body).fingerprint,
            define_stage(id="body", execute=body, output=int).fingerprint,  # type: ignore[arg-type]
            define_stage(id="body", execute=body, input=Labels).fingerprint,  # type: ignore[arg-type]
            define_stage(id="body", execute=body, config=TightLimits).fingerprint,
        }

        assert len(made) == 6

    def test_prose_does_not_change_it(self) -> None:
        plain = type("Described", (BaseModel,), {"__annotations__": {"body": "str"}})

        described = define_stage(id="x", execute=body, input=Described).fingerprint  # type: ignore[arg-type]

        assert define_stage(id="x", execute=body, input=plain).fingerprint == described

    def test_it_is_the_same_in_another_process(self) -> None:
        code = (
            "from workflow_engine.definition import define_stage\n"
            "made = define_stage(id='x', execute=lambda ctx: 1, input=dict[str, set[int]], output=int | str | None)\n"
            "print(made.fingerprint)"
        )
        root = Path(__file__).parents[3]
        prints = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }

        assert len(prints) == 1
        assert len(prints.pop().strip()) == 32
