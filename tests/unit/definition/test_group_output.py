"""The outputs of a parallel group, by stage."""

from __future__ import annotations

import copy

import pytest
from pydantic import BaseModel

from workflow_engine.definition import GroupOutput, StageContext, stage
from workflow_engine.errors import StageSkipped


class Labels(BaseModel):
    names: list[str]


@stage
def classify(ctx: StageContext[int]) -> Labels:
    return Labels(names=[])


@stage
def count(ctx: StageContext[int]) -> int:
    return 0


@stage
def skipped(ctx: StageContext[int]) -> int:
    return 0


@stage
def stranger(ctx: StageContext[int]) -> int:
    return 0


@pytest.fixture
def group() -> GroupOutput:
    members = {"classify": classify, "count": count, "skipped": skipped}
    return GroupOutput({"classify": '{"names": ["a"]}', "count": "0"}, members)


def test_an_output_is_parsed_by_its_stage(group: GroupOutput) -> None:
    assert group[classify] == Labels(names=["a"])
    assert group["classify"] == Labels(names=["a"])
    assert group[count] == 0


def test_each_reader_gets_its_own_copy(group: GroupOutput) -> None:
    group[classify].names.append("b")

    assert group[classify] == Labels(names=["a"])
    assert copy.deepcopy(group)[classify] == Labels(names=["a"])


def test_a_skipped_member_is_an_error_of_its_own(group: GroupOutput) -> None:
    with pytest.raises(StageSkipped, match='Stage "skipped" was skipped'):
        group[skipped]


def test_a_stage_outside_the_group_is_a_key_error(group: GroupOutput) -> None:
    with pytest.raises(KeyError, match=r"not in the previous group \(classify, count, skipped\)"):
        group[stranger]


def test_get_gives_a_default_where_there_is_no_output(group: GroupOutput) -> None:
    assert group.get(count) == 0
    assert group.get(skipped) is None
    assert group.get("stranger", 5) == 5


def test_it_is_a_mapping_of_the_members_that_have_an_output(group: GroupOutput) -> None:
    assert list(group) == ["classify", "count"]
    assert len(group) == 2
    assert classify in group
    assert skipped not in group
    assert 3 not in group
    assert dict(group) == {"classify": Labels(names=["a"]), "count": 0}
    assert repr(group) == "GroupOutput(classify, count)"


def test_it_cannot_be_changed(group: GroupOutput) -> None:
    with pytest.raises(TypeError):
        group["count"] = 1  # type: ignore[index] # the mistake


def test_an_output_without_definition_is_plain_json() -> None:
    group = GroupOutput({"removed": '{"a": 1}'}, {})

    assert group["removed"] == {"a": 1}
