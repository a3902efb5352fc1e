"""Stages are read from annotations or given explicitly; what makes no sense is refused by name."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import FrozenInstanceError
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

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
from workflow_engine.errors import DefinitionError

if TYPE_CHECKING:
    from decimal import Context as Hidden


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
        assert (made.is_async, made.poll, made.poll_is_async, made.awaits_runs) == (False, None, False, False)
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
        assert made.awaits_runs
        assert made.poll is None

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


class TestRefusing:
    def test_a_parameter_without_annotation(self) -> None:
        def bare(ctx) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001
            return 1

        assert refusal(lambda: stage(bare)) == (
            "stage \"bare\": annotate the parameter 'ctx' as StageContext[Document] or StageContext[Document, Config]"
        )

    def test_a_context_without_types(self) -> None:
        def bare(ctx: StageContext) -> int:  # type: ignore[type-arg] # the mistake
            return 1

        assert refusal(lambda: stage(bare)).startswith('stage "bare": StageContext needs its types')

    def test_another_parameter_than_a_context(self) -> None:
        def wrong(ctx: Text) -> int:
            return 1

        assert refusal(lambda: stage(wrong)) == (
            "stage \"wrong\": the parameter 'ctx' must be a StageContext, not Text"
        )

    def test_a_poll_context_for_a_body(self) -> None:
        def wrong(ctx: PollContext[Ref]) -> int:
            return 1

        assert "must be a StageContext, not" in refusal(lambda: stage(wrong))

    def test_a_missing_return_annotation(self) -> None:
        def bare(ctx: StageContext[Text]):  # type: ignore[no-untyped-def] # noqa: ANN202
            return 1

        assert refusal(lambda: stage(bare)) == 'stage "bare": annotate what bare returns'

    def test_too_few_or_too_many_parameters(self) -> None:
        def none() -> int:
            return 1

        def two(ctx: StageContext[Text], other: int) -> int:
            return other

        assert "exactly one argument, the context" in refusal(lambda: stage(none))
        assert "exactly one argument, the context" in refusal(lambda: stage(two))

    def test_classes_local_to_a_function(self) -> None:
        class Local(BaseModel):
            a: int

        def uses_local(ctx: StageContext[Local]) -> int:
            return ctx.input.a

        message = refusal(lambda: stage(uses_local))

        assert message.startswith("stage \"uses_local\": the annotation of uses_local names 'Local'")
        assert "Classes local to a function" in message
        assert "define_stage" in message

    def test_imports_under_type_checking(self) -> None:
        def uses_hidden(ctx: StageContext[Text]) -> Hidden: ...

        assert "names 'Hidden'" in refusal(lambda: stage(uses_hidden))

    def test_generators(self) -> None:
        def yielding(ctx: StageContext[Text]) -> Iterator[int]:
            yield 1

        assert refusal(lambda: stage(yielding)) == (
            'stage "yielding" is a generator; return the output instead of yielding it'
        )

    def test_things_that_are_no_functions(self) -> None:
        assert "expected a function" in refusal(lambda: stage(Text))  # type: ignore[call-overload] # the mistake
        assert "expected a function" in refusal(lambda: stage(id="x")(3))  # type: ignore[call-overload] # the mistake

    def test_an_output_that_pydantic_does_not_know(self) -> None:
        def odd(ctx: StageContext[Text]) -> TestRefusing:
            return self

        assert refusal(lambda: stage(odd)).startswith('stage "odd": output: TestRefusing cannot be used as a schema')

    def test_suspend_without_poll(self) -> None:
        assert refusal(lambda: stage(suspending)) == (
            'stage "suspending" returns Suspend but has no poll; pass poll=, a function of a PollContext'
        )

    def test_poll_without_suspend(self) -> None:
        assert "has a poll but its body never returns Suspend" in refusal(lambda: stage(poll=poll)(body))

    def test_suspend_without_the_type_of_its_state(self) -> None:
        def vague(ctx: StageContext[Text]) -> Suspend:
            return Suspend(1)

        assert "Suspend needs the type of its state" in refusal(lambda: stage(poll=poll)(vague))

    def test_pending_from_a_body(self) -> None:
        def wrong(ctx: StageContext[Text]) -> Labels | Pending:
            return Pending()

        assert "Pending is what a poll returns" in refusal(lambda: stage(wrong))

    def test_suspend_from_a_poll(self) -> None:
        def wrong(ctx: PollContext[Ref]) -> Labels | Suspend[Ref]:
            return Suspend(Ref(id="1"))

        assert "poll wrong returns Suspend" in refusal(lambda: stage(poll=wrong)(suspending))

    def test_a_poll_without_output(self) -> None:
        def endless(ctx: PollContext[Ref]) -> Pending:
            return Pending()

        assert "poll endless never returns an output" in refusal(lambda: stage(poll=endless)(suspending))

    def test_another_state_in_the_poll(self) -> None:
        def other(ctx: PollContext[OtherRef]) -> Labels | Pending:
            return Pending()

        assert refusal(lambda: stage(poll=other)(suspending)) == (  # type: ignore[arg-type] # the mistake
            'stage "suspending" suspends with Ref but its poll takes OtherRef'
        )

    def test_another_new_state_in_pending(self) -> None:
        def other(ctx: PollContext[Ref]) -> Labels | Pending[OtherRef]:
            return Pending()

        assert refusal(lambda: stage(poll=other)(suspending)) == (
            'stage "suspending": poll other takes the state Ref, but may return Pending with OtherRef'
        )

    def test_another_output_in_the_poll(self) -> None:
        def other(ctx: PollContext[Ref]) -> Text | Pending:
            return Pending()

        assert refusal(lambda: stage(poll=other)(maybe_suspending)) == (  # type: ignore[arg-type] # the mistake
            'stage "maybe_suspending" returns Labels but its poll returns Text'
        )

    def test_another_config_in_the_poll(self) -> None:
        def other(ctx: PollContext[Ref, TightLimits]) -> Labels | Pending:
            return Pending()

        assert refusal(lambda: stage(poll=other)(suspending)) == (
            'stage "suspending" has the config Limits but its poll takes TightLimits'
        )

    def test_a_poll_for_a_body_that_waits_for_runs(self) -> None:
        assert "is polled by the engine; remove poll=" in refusal(
            lambda: stage(poll=poll)(waiting)  # type: ignore[arg-type] # the mistake
        )

    def test_waiting_for_runs_or_returning_something_else(self) -> None:
        def either(ctx: StageContext[Text]) -> UntilRuns | Labels:
            return Labels(names=[])

        assert "returns UntilRuns returns nothing else" in refusal(lambda: stage(either))

    @pytest.mark.parametrize(
        "wrong", ["", "Upper", "-a", "_a", "a b", "a/b", "a.b", "é", "a" * 101, "\u0430"], ids=ascii
    )
    def test_ids_that_do_not_match(self, wrong: str) -> None:
        message = refusal(lambda: define_stage(id=wrong, execute=body))

        assert f"stage id {wrong!r} is not valid: ids are 1 to 100 characters" in message

    def test_a_function_name_that_is_no_id(self) -> None:
        def camelCase(ctx: StageContext[Text]) -> int:  # noqa: N802 - on purpose
            return 1

        assert refusal(lambda: stage(camelCase)).endswith("; pass id=")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"timeout": 5}, "timeout must be a timedelta, not int"),
            ({"timeout": timedelta(0)}, "timeout must be more than zero"),
            ({"queue_timeout": -timedelta(1)}, "queue_timeout must be more than zero"),
            ({"poll_interval": timedelta(0)}, "poll_interval must be more than zero"),
            ({"max_wait": timedelta.max}, "max_wait must be at most 36,500 days"),
            ({"poll_timeout": None}, "poll_timeout must be a timedelta, not NoneType"),
            ({"max_crashes": 0}, "max_crashes must be at least 1"),
            ({"retry": 3}, "retry must be a Retry, not int"),
            ({"queue": 3}, "queue must be a string, not int"),
            ({"version": 2}, "version must be a string, not int"),
            ({"name": 2}, "name must be a string, not int"),
            ({"dependencies": "extract"}, "dependencies must be a list of stages or ids"),
            ({"dependencies": ["Extract"]}, "dependency id 'Extract' is not valid"),
            ({"dependencies": [3]}, "dependency id 3 is not valid"),
            ({"dependencies": ["body"]}, "depends on itself"),
            ({"skip_if": 3}, "skip_if: expected a function, got 3"),
            ({"skip_if": async_body}, "skip_if must be a plain function, not async"),
            ({"on_cancel": async_body}, "on_cancel must be a plain function, not async"),
            ({"estimate_cost": 3}, "estimate_cost must be a function of input and config"),
            ({"retries": 3}, "unknown option 'retries'; did you mean 'retry'?"),
        ],
        ids=str,
    )
    def test_options_that_do_not_fit(self, options: Any, message: str) -> None:
        refused = refusal(lambda: stage(**options)(body))

        assert refused.startswith('stage "body"')
        assert message in refused


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
        assert types_of(define_stage(id="x", execute=body, config=TightLimits)) == (Text, TightLimits, Labels, None)  # type: ignore[arg-type]

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
        message = refusal(
            lambda: define_async_batch_stage(id="x", execute=suspending, check=poll, state=OtherRef)  # type: ignore[misc]
        )

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
            define_stage(id="body", execute=body, config=TightLimits).fingerprint,  # type: ignore[arg-type]
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
