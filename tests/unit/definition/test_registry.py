"""Where workflows are found by id."""

from __future__ import annotations

from typing import Any

import pytest

from workflow_engine.definition import (
    NoInput,
    Registry,
    Workflow,
    WorkflowBuilder,
    WorkflowRegistry,
    as_registry,
    define_stage,
)
from workflow_engine.errors import DefinitionError, InvalidPriorityError, WorkflowNotFoundError
from workflow_engine.priorities import DEFAULT_PRIORITY


def build(workflow_id: str, priority: int | None = None) -> Workflow[Any, Any]:
    only = define_stage(id="only", execute=lambda _: 1, input=NoInput, output=int)
    return WorkflowBuilder(workflow_id, priority=priority).pipe(only).build()


BILLING = build("billing", priority=0)
REPORTS = build("reports")


class Source:
    def __init__(self, priority: object = None) -> None:
        self.priority = priority

    def get_workflow(self, workflow_id: str) -> Any:
        return {"billing": BILLING, "wrong": REPORTS, "odd": "x"}.get(workflow_id)


class PrioritySource(Source):
    def get_workflow_priority(self, workflow_id: str) -> object:
        return self.priority


@pytest.mark.parametrize(
    "workflows",
    [[BILLING, REPORTS], {"billing": BILLING, "reports": REPORTS}, (w for w in (BILLING, REPORTS)), {BILLING, REPORTS}],
    ids=["list", "mapping", "generator", "set"],
)
def test_workflows_are_found_by_id(workflows: Any) -> None:
    registry = as_registry(workflows)

    assert registry.get("billing") is BILLING
    assert registry.find("reports") is REPORTS
    assert registry.find("other") is None
    assert registry.ids() == ("billing", "reports")


def test_one_workflow_is_a_registry_too() -> None:
    assert as_registry(BILLING).ids() == ("billing",)


def test_a_registry_stays_what_it_is() -> None:
    registry = Registry({"billing": BILLING})

    assert as_registry(registry) is registry


def test_an_unknown_workflow_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(WorkflowNotFoundError, match=r"'other' is not registered \(registered: billing, reports\)"):
        as_registry([BILLING, REPORTS]).get("other")


def test_the_same_workflow_twice_is_one() -> None:
    assert as_registry([BILLING, BILLING]).ids() == ("billing",)


def test_two_definitions_of_one_id_are_refused() -> None:
    with pytest.raises(DefinitionError, match='Two workflows have the id "billing"'):
        as_registry([BILLING, build("billing")])


def test_a_key_that_is_not_the_id_is_refused() -> None:
    with pytest.raises(DefinitionError, match="\"billing\" is registered under the key 'invoices'"):
        as_registry({"invoices": BILLING})


@pytest.mark.parametrize("wrong", [["billing"], [WorkflowBuilder("w")], {"billing": 3}], ids=["id", "builder", "value"])
def test_what_is_no_workflow_is_refused(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match=r"is not a workflow; call build\(\)"):
        as_registry(wrong)


@pytest.mark.parametrize("wrong", [None, 3, "billing", b"billing"], ids=ascii)
def test_what_holds_no_workflows_is_refused(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="Expected workflows"):
        as_registry(wrong)


def test_an_object_of_the_team_is_asked() -> None:
    source = Source()
    registry = as_registry(source)

    assert isinstance(source, WorkflowRegistry)
    assert registry.get("billing") is BILLING
    assert registry.find("other") is None
    assert registry.ids() == ()


@pytest.mark.parametrize("workflow_id", ["wrong", "odd"])
def test_an_object_that_answers_with_something_else_is_refused(workflow_id: str) -> None:
    with pytest.raises(DefinitionError, match=rf"get_workflow\('{workflow_id}'\) returned"):
        as_registry(Source()).find(workflow_id)


def test_the_priority_comes_from_the_workflow() -> None:
    registry = as_registry([BILLING, REPORTS])

    assert registry.priority_of("billing") == 0
    assert registry.priority_of("reports") == DEFAULT_PRIORITY
    assert registry.priority_of("other") == DEFAULT_PRIORITY


def test_the_priority_of_the_team_wins() -> None:
    assert as_registry(PrioritySource(7)).priority_of("billing") == 7
    assert as_registry(PrioritySource(None)).priority_of("billing") == 0
    assert as_registry(Source()).priority_of("billing") == 0


@pytest.mark.parametrize("wrong", [11, -1, True, 1.0, "5"], ids=repr)
def test_a_priority_out_of_range_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidPriorityError, match=r"from 0 \(least\) to 10"):
        as_registry(PrioritySource(wrong)).priority_of("billing")
