from __future__ import annotations

import pytest

from document_analysis.language import count_syllables, is_content_word, split_sentences, stem, words_of


def test_sentences_end_with_a_mark_and_closing_quotes() -> None:
    text = 'Is it? "Yes!" he said. It was (really). The end'

    assert split_sentences(text) == ["Is it?", '"Yes!"', "he said.", "It was (really).", "The end"]


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Smith met Mr. J. Doe at St. Mary.",
        "It costs 3.50 in version 3.11 of e.g. Python.",
        "He waited... and left.",
        "Files end in .txt and so on.",
        "Salt, pepper, etc. are spices.",
    ],
)
def test_abbreviations_initials_numbers_and_dots_end_no_sentence(sentence: str) -> None:
    assert split_sentences(sentence) == [sentence]


def test_a_full_width_stop_ends_a_sentence() -> None:
    assert split_sentences("これは文です。次の文。") == ["これは文です。", "次の文。"]


def test_a_paragraph_without_letters_and_digits_has_no_sentence() -> None:
    assert split_sentences("--- ... ***") == []


def test_words_keep_hyphens_apostrophes_and_underscores_and_leave_numbers_out() -> None:
    assert words_of("Don't call __init__ 42 times, well-known naïve user_2!") == [
        "Don't",
        "call",
        "__init__",
        "times",
        "well-known",
        "naïve",
        "user_2",
    ]


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("Objects", "object"),
        ("classes", "class"),
        ("class", "class"),
        ("bodies", "body"),
        ("bus", "bus"),
        ("analysis", "analysis"),
        ("loop\u2019s", "loop"),
        ("__slots__", "__slots__"),
        ("is", "is"),
    ],
)
def test_forms_of_a_noun_meet_under_one_stem(word: str, key: str) -> None:
    assert stem(word) == key


def test_stop_words_and_loop_variables_are_no_content() -> None:
    assert [word for word in ["The", "loop", "i", "isn\u2019t", "__x__", "pass"] if is_content_word(word)] == [
        "loop",
        "pass",
    ]


@pytest.mark.parametrize(
    ("word", "count"), [("the", 1), ("statement", 3), ("table", 2), ("rhythm", 1), ("x", 1), ("文", 1)]
)
def test_syllables_are_estimated_and_never_zero(word: str, count: int) -> None:
    estimate = count_syllables(word)

    assert abs(estimate - count) <= 1 if word == "statement" else estimate == count


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["One more. ", "a.", "... ", "e.g. ", "\"'", "x" * 100 + " "])
def test_a_megabyte_of_sentences_is_split_in_linear_time(piece: str) -> None:
    split_sentences(piece * (2**20 // len(piece)))
