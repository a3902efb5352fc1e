from __future__ import annotations

from workflow_engine.cli.screens.graphs import draw_groups


def drawn(*groups: list[str], width: int = 80) -> str:
    return "\n" + "\n".join(draw_groups(groups, width=width)) + "\n"


def test_a_parallel_group_is_drawn_side_by_side_and_joined() -> None:
    picture = drawn(["extract"], ["classify", "summarize"], ["merge"])

    assert (
        picture
        == """
         ┌─────────┐
         │ extract │
         └────┬────┘
      ┌───────┴───────┐
┌─────┴─────┐   ┌─────┴─────┐
│ classify  │   │ summarize │
└─────┬─────┘   └─────┬─────┘
      └───────┬───────┘
          ┌───┴───┐
          │ merge │
          └───────┘
"""
    )


def test_one_stage_is_one_box() -> None:
    assert drawn(["a"]) == "\n┌───┐\n│ a │\n└───┘\n"


def test_two_parallel_groups_in_a_row_are_joined_each_with_each() -> None:
    picture = drawn(["a", "b"], ["c", "d", "e"])

    assert (
        picture
        == """
    ┌───┐   ┌───┐
    │ a │   │ b │
    └─┬─┘   └─┬─┘
  ┌───┴───┬───┴───┐
┌─┴─┐   ┌─┴─┐   ┌─┴─┐
│ c │   │ d │   │ e │
└───┘   └───┘   └───┘
"""
    )


def test_a_group_that_is_too_wide_is_one_box_with_a_list() -> None:
    picture = drawn(["first stage", "second"], ["x"], width=20)

    assert (
        picture
        == """
┌─────────────┐
│ first stage │
│ second      │
└──────┬──────┘
       │
     ┌─┴─┐
     │ x │
     └───┘
"""
    )


def test_stages_of_different_widths_are_joined_by_a_straight_line() -> None:
    picture = drawn(["ab"], ["c"], ["defg"])

    assert (
        picture
        == """
 ┌─────┐
 │ ab  │
 └──┬──┘
    │
  ┌─┴─┐
  │ c │
  └─┬─┘
    │
┌───┴───┐
│ defg  │
└───────┘
"""
    )
