"""What makes no stage is refused when it is defined, by name and with what was expected."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from workflow_engine.definition import (
    Pending,
    PollContext,
    StageContext,
    Suspend,
    UntilRuns,
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


NO_POLL = (
    "returns Suspend but has no poll; pass poll=, a function of a PollContext, "
    "or return Suspend.until_runs(...) and annotate the body -> UntilRuns"
)


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(DefinitionError) as caught:
        make()
    return str(caught.value)


class TestRefusing:
    def test_a_parameter_without_annotation(self) -> None:
        def bare(ctx) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001
            return 1

        assert refusal(lambda: stage(bare)) == (
            "stage \"bare\": annotate the parameter 'ctx' as StageContext[Document] or StageContext[Document, Config]; "
            "or pass input= and output= to define_stage"
        )

    def test_a_context_without_types(self) -> None:
        def bare(ctx: StageContext) -> int:  # type: ignore[type-arg] # the mistake
            return 1

        assert refusal(lambda: stage(bare)).startswith('stage "bare": StageContext needs its types')

    def test_another_parameter_than_a_context(self) -> None:
        def wrong(ctx: Text) -> int:
            return 1

        assert refusal(lambda: stage(wrong)) == (
            "stage \"wrong\": the parameter 'ctx' must be a StageContext, not Text; "
            "or pass input= and output= to define_stage"
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
        assert "expected a function" in refusal(lambda: stage(Text))
        assert "expected a function" in refusal(lambda: stage(id="x")(3))  # type: ignore[call-overload] # the mistake

    def test_an_output_that_pydantic_does_not_know(self) -> None:
        def odd(ctx: StageContext[Text]) -> TestRefusing:
            return self

        assert refusal(lambda: stage(odd)).startswith('stage "odd": output: TestRefusing cannot be used as a schema')

    def test_suspend_without_poll(self) -> None:
        assert refusal(lambda: stage(suspending)) == (f'stage "suspending" {NO_POLL}')

    @pytest.mark.parametrize("returns", [Suspend, Suspend[Ref], int | Suspend, Awaitable[Suspend[Ref]]], ids=str)
    def test_suspend_without_poll_where_everything_else_is_given(self, returns: Any) -> None:
        def submit(ctx: Any) -> Any:
            return Suspend(1)

        submit.__annotations__["return"] = returns

        assert refusal(lambda: define_stage(id="s", execute=submit, input=int, output=int)) == (f'stage "s" {NO_POLL}')

    def test_a_context_without_its_types_is_told_what_would_do_instead(self) -> None:
        def vague(ctx: Any) -> int:
            return 1

        assert refusal(lambda: define_stage(id="s", execute=vague, output=int)) == (
            "stage \"s\": the parameter 'ctx' must be a StageContext, not Any; "
            "or pass input= and output= to define_stage"
        )

    def test_a_poll_function_that_is_called_poll(self) -> None:
        def poll(ctx: PollContext[Ref]) -> Pending:
            return Pending()

        assert "poll function poll never returns" in refusal(lambda: stage(poll=poll)(suspending))

    def test_poll_without_suspend(self) -> None:
        assert "has a poll but its body never returns Suspend" in refusal(lambda: stage(poll=poll)(body))

    def test_suspend_without_the_type_of_its_state(self) -> None:
        def vague(ctx: StageContext[Text]) -> Suspend:
            return Suspend(1)

        assert (
            refusal(lambda: stage(poll=poll)(vague))
            == refusal(lambda: stage(vague))
            == (
                'stage "vague": Suspend needs the type of its state: annotate the body -> Output | Suspend[BatchRef] and '
                "pass poll=, or annotate it -> UntilRuns if it returns Suspend.until_runs(...)"
            )
        )

    def test_pending_from_a_body(self) -> None:
        def wrong(ctx: StageContext[Text]) -> Labels | Pending:
            return Pending()

        assert "Pending is what a poll returns" in refusal(lambda: stage(wrong))

    def test_suspend_from_a_poll(self) -> None:
        def wrong(ctx: PollContext[Ref]) -> Labels | Suspend[Ref]:
            return Suspend(Ref(id="1"))

        assert "poll function wrong returns Suspend" in refusal(lambda: stage(poll=wrong)(suspending))

    def test_a_poll_without_output(self) -> None:
        def endless(ctx: PollContext[Ref]) -> Pending:
            return Pending()

        assert "poll function endless never returns an output" in refusal(lambda: stage(poll=endless)(suspending))

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
            'stage "suspending": poll function other takes the state Ref, but may return Pending with OtherRef'
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
        assert "UntilRuns is polled by the engine; remove poll=" in refusal(
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
            ({"queue": "gpu pool"}, "queue must be 1 to 100 letters, digits, '_', '.' and '-', got 'gpu pool'"),
            ({"queue": "q" * 101}, "queue must be 1 to 100 letters"),
            ({"name": "half \ud800 a pair"}, "name holds characters that cannot be stored"),
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
            ({"retries": 3}, "unknown option 'retries' (did you mean \"retry\"? options: name, "),
        ],
        ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", str(value)),
    )
    def test_options_that_do_not_fit(self, options: Any, message: str) -> None:
        refused = refusal(lambda: stage(**options)(body))

        assert refused.startswith('stage "body"')
        assert message in refused
