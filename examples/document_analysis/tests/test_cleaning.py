from __future__ import annotations

import pytest

from document_analysis.cleaning import Block, BlockKind, clean, find_title, split_blocks


def kinds(text: str) -> list[tuple[str, str]]:
    return [(block.kind.value, block.text) for block in split_blocks(clean(text))]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\x85"])
def test_every_kind_of_line_break_becomes_one(line_break: str) -> None:
    assert clean(f"one{line_break}two") == "one\ntwo"


def test_invisible_and_control_characters_disappear() -> None:
    assert clean("a\x00b\u200bc\u00add\ufeffe\x1bf") == "abcdef"


def test_letters_and_accents_are_composed_and_odd_spaces_are_ordinary() -> None:
    assert clean("cafe\u0301\u00a0au\u2009lait") == "caf\u00e9 au lait"


def test_an_underlined_line_is_a_heading_and_the_text_below_a_paragraph() -> None:
    assert kinds("Title\n*****\n\nSome words\nof prose.") == [
        ("heading", "Title"),
        ("paragraph", "Some words of prose."),
    ]


def test_a_markdown_heading_needs_no_blank_line_after_it() -> None:
    assert kinds("## Usage ##\nRun it.") == [("heading", "Usage"), ("paragraph", "Run it.")]


def test_each_list_item_is_a_paragraph_of_its_own() -> None:
    assert kinds("* first\n  goes on\n* second\n\n1. third") == [
        ("paragraph", "first goes on"),
        ("paragraph", "second"),
        ("paragraph", "third"),
    ]


def test_indented_and_fenced_program_code_is_no_prose() -> None:
    found = kinds("Before.\n\n   for i in range(10):\n       print(i)\n\nAfter.\n\n```python\n\nx = f(1)\n```\nEnd.")

    assert [kind for kind, _ in found] == ["paragraph", "code", "paragraph", "code", "paragraph"]


def test_an_indented_explanation_is_prose() -> None:
    assert kinds("object.__len__(self)\n\n   It is called to get the length of the object, and it should be whole.")[1][
        0
    ] == ("paragraph")


def test_a_word_broken_at_the_end_of_a_line_is_mended_and_a_compound_is_kept() -> None:
    assert kinds("An exam-\nple of a well-known\ncase.") == [("paragraph", "An example of a well-known case.")]


def test_inline_markup_and_footnote_marks_go_and_operators_stay() -> None:
    text = "See *this*, **that**, ``code``, :ref:`a link`, [the site](http://x.example) [1] and 2 * 3 * 4."

    assert kinds(text) == [("paragraph", "See this, that, code, a link, the site and 2 * 3 * 4.")]


def test_html_becomes_text_without_scripts() -> None:
    page = "<html><head><title>Page</title><script>var x = 1;</script></head><body><p>Tom &amp; <b>Jerry</b></p></body></html>"

    assert kinds(page) == [("heading", "Page"), ("paragraph", "Tom & Jerry")]


def test_a_line_of_underline_marks_alone_is_left_out() -> None:
    assert kinds("one\n\n----------\n\ntwo") == [("paragraph", "one"), ("paragraph", "two")]


@pytest.mark.parametrize(
    ("blocks", "title"),
    [
        ([Block(BlockKind.PARAGRAPH, "Intro."), Block(BlockKind.HEADING, "Heading")], "Heading"),
        ([Block(BlockKind.PARAGRAPH, "A short first line")], "A short first line"),
        ([Block(BlockKind.PARAGRAPH, "A sentence.")], "file.txt"),
        ([], "file.txt"),
    ],
)
def test_the_title_is_the_first_heading_or_a_short_first_line_or_the_name(blocks: list[Block], title: str) -> None:
    assert find_title(blocks, fallback="file.txt") == title


def test_a_very_long_title_is_shortened() -> None:
    title = find_title([Block(BlockKind.HEADING, "word " * 100)], fallback="x")

    assert len(title) <= 100
    assert title.endswith("…")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["[", "*", "**", "`", ":a", "![x](", "```\n", "<p>", "# ", "-\n", "\u200b", "a-\n"])
def test_a_megabyte_of_half_open_markup_is_read_in_linear_time(piece: str) -> None:
    split_blocks(clean(piece * (2**20 // len(piece))))
