from __future__ import annotations

from pydoc_data.topics import topics

from document_analysis.analysis import (
    DocumentFrequencies,
    classify,
    extract,
    find_keywords,
    measure_readability,
    reference_frequencies,
    summarize,
)

REFERENCE = DocumentFrequencies.of(["the common words of common text", "more common words", "common words again"])


def test_extract_takes_a_document_apart() -> None:
    found = extract(
        "Loops\n=====\n\nA loop repeats. It ends.\n\n    x = [1, 2]\n    y = f(x)\n\nDone.", name="loops.txt"
    )

    assert found.title == "Loops"
    assert found.paragraphs == ("A loop repeats. It ends.", "Done.")
    assert found.sentences == ("A loop repeats.", "It ends.", "Done.")
    assert found.word_count == 6
    assert found.code_lines == 2


def test_document_frequencies_count_documents_not_occurrences() -> None:
    assert REFERENCE.documents == 3
    assert REFERENCE.counts["common"] == 3
    assert REFERENCE.counts["text"] == 1


def test_a_word_of_every_document_has_no_rarity_and_an_unknown_one_the_most() -> None:
    assert REFERENCE.rarity("common") == 0
    assert REFERENCE.rarity("zebra") > REFERENCE.rarity("text") > 0


def test_keywords_are_frequent_here_and_rare_elsewhere() -> None:
    sentences = ["Zebras graze.", "A zebra is common.", "Common words are common."]

    found = find_keywords(sentences, title="x", reference=REFERENCE, limit=2)

    assert [(keyword.text, keyword.count) for keyword in found] == [("zebras", 2), ("graze", 1)]


def test_the_title_gives_a_word_weight() -> None:
    sentences = ["Alpha meets beta."]

    assert find_keywords(sentences, title="Beta", reference=REFERENCE, limit=1)[0].text == "beta"
    assert find_keywords(sentences, title="Alpha", reference=REFERENCE, limit=1)[0].text == "alpha"


def test_a_repeated_pair_of_words_takes_the_place_of_its_parts() -> None:
    sentences = ["The context manager exits.", "A context manager enters."]

    found = [keyword.text for keyword in find_keywords(sentences, title="", reference=REFERENCE)]

    assert found[0] == "context manager"
    assert "context" not in found
    assert "manager" not in found


def test_a_pair_does_not_span_stop_words_or_sentences() -> None:
    sentences = ["Salt and pepper.", "Salt and pepper.", "Pepper here.", "Salt."]

    found = [keyword.text for keyword in find_keywords(sentences, title="", reference=REFERENCE)]

    assert sorted(found) == ["pepper", "salt"]


def test_a_text_without_content_has_no_keywords() -> None:
    assert find_keywords(["It is what it is."], title="It", reference=REFERENCE) == []


def test_the_category_is_the_subject_with_most_evidence() -> None:
    category = classify(["The court found the party liable.", "The agreement limits liability."], title="Judgement")

    assert category.name == "law and policy"
    assert 0 < category.confidence <= 1


def test_a_text_of_no_known_subject_is_other() -> None:
    assert classify(["Zzz qqq."], title="Xyz").name == "other"


def test_a_summary_keeps_the_order_of_the_text_and_leaves_fragments_out() -> None:
    sentences = [
        "Here it is.",
        "The zebra herd crosses the wide river when the dry season begins in the north.",
        "Nothing else.",
        "Lions follow the zebra herd and wait beside the river for the weakest animals.",
    ]

    assert summarize(sentences, title="Zebra herds", reference=REFERENCE, limit=2) == [sentences[1], sentences[3]]


def test_of_two_sentences_that_say_as_much_the_earlier_one_is_taken() -> None:
    first, second = "Old zebra herds may cross rivers.", "Grey lions hunt gazelles near lakes."

    assert summarize([first, second], title="", reference=REFERENCE, limit=1) == [first]


def test_a_fragment_is_worth_less_than_a_sentence() -> None:
    fragment, sentence = "Zebra rivers lions:", "Some zebra herds cross the rivers where lions are."

    assert summarize([fragment, sentence], title="", reference=REFERENCE, limit=1) == [sentence]


def test_the_title_speaks_for_a_category() -> None:
    sentences = ["The customer waits.", "The market opens."]

    assert classify(sentences, title="The court and the law").name == "law and policy"


def test_a_summary_does_not_say_the_same_twice() -> None:
    same = "The zebra herd crosses the wide river every year."
    sentences = [same, same, "Lions wait for weak animals beside the water."]

    assert summarize(sentences, title="", reference=REFERENCE, limit=2) == [sentences[0], sentences[2]]


def test_a_summary_is_short_whatever_the_text() -> None:
    endless = ["zebra " * 5000, "x" * 5000]

    assert max(map(len, summarize(endless, title="", reference=REFERENCE))) <= 600
    assert [keyword.text for keyword in find_keywords(endless, title="", reference=REFERENCE)] == ["zebra"]


def test_an_empty_text_has_an_empty_summary() -> None:
    assert summarize([], title="", reference=REFERENCE) == []


def test_short_words_in_short_sentences_are_easier_to_read() -> None:
    easy = measure_readability(["The cat sat.", "It ate a rat."])
    hard = measure_readability(
        ["Institutional considerations necessitate extraordinarily sophisticated administration."]
    )

    assert easy.reading_ease > 90
    assert hard.reading_ease < 0
    assert easy.grade < hard.grade
    assert easy.words_per_sentence == 3.5


def test_a_text_without_words_has_no_readability() -> None:
    assert measure_readability(["42."]).words_per_sentence == 0


def test_the_language_reference_is_recognised_for_what_it_is() -> None:
    expected = {"while": "control flow", "strings": "text", "import": "names and modules", "binary": "expressions"}

    found = {name: classify(extract(topics[name], name=name).sentences, title=name).name for name in expected}

    assert found == expected


def test_every_topic_of_the_language_reference_gives_keywords_and_a_summary() -> None:
    reference = reference_frequencies()

    for name, text in topics.items():
        found = extract(text, name=name)
        assert find_keywords(found.sentences, title=found.title, reference=reference), name
        assert summarize(found.sentences, title=found.title, reference=reference), name
