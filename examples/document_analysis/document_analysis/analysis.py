"""What a document says: its statistics, keywords, category, summary and how hard it is to read. Pure."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from document_analysis.cleaning import BlockKind, clean, find_title, split_blocks
from document_analysis.language import (
    count_syllables,
    is_content_word,
    split_sentences,
    stem,
    without_possessive,
    words_of,
)
from document_analysis.vocabulary import SUBJECTS, UNKNOWN_SUBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


#: A summary's sentence that is longer is cut: most likely it is none.
_LONGEST_SENTENCE: Final = 600


@dataclass(frozen=True, slots=True)
class Extract:
    """The readable part of a document."""

    title: str
    paragraphs: tuple[str, ...]
    sentences: tuple[str, ...]
    word_count: int
    code_lines: int


@dataclass(frozen=True, slots=True)
class DocumentFrequencies:
    """In how many documents of a reference collection each stem occurs."""

    documents: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> DocumentFrequencies:
        """Count the stems of a collection of raw texts."""
        counts: Counter[str] = Counter()
        documents = 0
        for text in texts:
            documents += 1
            counts.update({stem(word) for word in words_of(text)})
        return cls(documents, counts)

    def rarity(self, stemmed: str) -> float:
        """Return the inverse document frequency of a stem, smoothed: 0 for one that is everywhere."""
        return max(0.0, math.log((self.documents + 1) / (self.counts.get(stemmed, 0) + 1)))


@dataclass(frozen=True, slots=True)
class Keyword:
    """A word or pair of words that tells this document from others."""

    text: str
    score: float
    count: int


@dataclass(frozen=True, slots=True)
class Category:
    """The subject that most of a document's words speak for."""

    name: str
    #: Its share of the evidence for all categories, 0 to 1.
    confidence: float


@dataclass(frozen=True, slots=True)
class Readability:
    """How hard English text is to read."""

    #: Flesch reading ease: about 90 for a comic, 30 for a scientific paper.
    reading_ease: float
    #: Flesch-Kincaid: years of school.
    grade: float
    words_per_sentence: float
    syllables_per_word: float


def extract(text: str, *, name: str) -> Extract:
    """Clean a raw document and take it apart; ``name`` becomes the title where the text has none."""
    blocks = split_blocks(clean(text))
    paragraphs = tuple(block.text for block in blocks if block.kind is BlockKind.PARAGRAPH)
    sentences = tuple(sentence for paragraph in paragraphs for sentence in split_sentences(paragraph))
    code = [block.text for block in blocks if block.kind is BlockKind.CODE]
    return Extract(
        title=find_title(blocks, fallback=name),
        paragraphs=paragraphs,
        sentences=sentences,
        word_count=sum(len(words_of(sentence)) for sentence in sentences),
        code_lines=sum(block.count("\n") + 1 for block in code),
    )


def find_keywords(
    sentences: Sequence[str], *, title: str, reference: DocumentFrequencies, limit: int = 5
) -> list[Keyword]:
    """Return the words and pairs of words that are frequent here and rare in ``reference``, best first.

    A term scores ``(1 + log count) * rarity``, half as much again where it stands in the title. A pair counts from its
    second occurrence on and takes the place of the words it is made of.
    """
    surfaces: dict[str, Counter[str]] = {}
    singles: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for sentence in sentences:
        words = words_of(sentence)
        stems = [stem(word) if is_content_word(word) else "" for word in words]
        for stemmed, word in zip(stems, words, strict=True):
            if stemmed:
                surfaces.setdefault(stemmed, Counter())[without_possessive(word.lower())] += 1
        singles.update(filter(None, stems))
        pairs.update(pair for pair in pairwise(stems) if all(pair) and pair[0] != pair[1])
    in_title = {stem(word) for word in words_of(title)}
    scored = _score_terms(singles, pairs, in_title, reference)
    return [
        Keyword(" ".join(surfaces[part].most_common(1)[0][0] for part in term), round(score, 3), count)
        for term, score, count in _without_parts(scored, limit)
    ]


def classify(sentences: Sequence[str], *, title: str) -> Category:
    """Return the subject whose words make up most of the text; the title counts five times."""
    stems = Counter(stem(word) for text in [*sentences, *[title] * 5] for word in words_of(text))
    subjects = {name: {stem(word) for word in words} for name, words in SUBJECTS.items()}
    evidence = {
        name: sum(math.sqrt(stems[word]) for word in words if stems[word]) / math.sqrt(len(words))
        for name, words in subjects.items()
    }
    total = sum(evidence.values())
    if not total:
        return Category(UNKNOWN_SUBJECT, 0.0)
    best = max(evidence, key=lambda name: evidence[name])
    return Category(best, round(evidence[best] / total, 3))


def summarize(sentences: Sequence[str], *, title: str, reference: DocumentFrequencies, limit: int = 2) -> list[str]:
    """Return the sentences that say most, in their own order.

    A sentence is worth the mean weight of its content words; early ones are worth more, very short or long ones less,
    and one that repeats a chosen sentence is left out.
    """
    weights = {
        keyword.text: keyword.score
        for keyword in find_keywords(sentences, title=title, reference=reference, limit=40)
        if " " not in keyword.text
    }
    ranked = sorted(
        range(len(sentences)),
        key=lambda index: -_worth(sentences[index], index, weights),
    )
    chosen: list[int] = []
    for index in ranked:
        if len(chosen) < limit and not any(_overlap(sentences[index], sentences[other]) > 0.6 for other in chosen):  # noqa: PLR2004
            chosen.append(index)
    return [textwrap.shorten(sentences[index], _LONGEST_SENTENCE, placeholder=" …") for index in sorted(chosen)]


def measure_readability(sentences: Sequence[str]) -> Readability:
    """Return the Flesch measures of the sentences; zeros for a text without words."""
    words = [word for sentence in sentences for word in words_of(sentence)]
    if not words:
        return Readability(0.0, 0.0, 0.0, 0.0)
    length = len(words) / len(sentences)
    syllables = sum(map(count_syllables, words)) / len(words)
    return Readability(
        reading_ease=round(206.835 - 1.015 * length - 84.6 * syllables, 1),
        grade=round(0.39 * length + 11.8 * syllables - 15.59, 1),
        words_per_sentence=round(length, 1),
        syllables_per_word=round(syllables, 2),
    )


@lru_cache(maxsize=1)
def reference_frequencies() -> DocumentFrequencies:
    """Return the document frequencies of the language reference that every CPython carries, counted once."""
    from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte that only this function needs

    return DocumentFrequencies.of(topics.values())


_Term = tuple[str, ...]


def _score_terms(
    singles: Counter[str], pairs: Counter[tuple[str, str]], in_title: set[str], reference: DocumentFrequencies
) -> list[tuple[_Term, float, int]]:
    def score(term: _Term, count: int) -> float:
        rarity = sum(map(reference.rarity, term)) / len(term)
        emphasis = (1.5 if in_title.issuperset(term) else 1.0) * (1.4 if len(term) > 1 else 1.0)
        return (1 + math.log(count)) * rarity * emphasis

    terms: list[tuple[_Term, int]] = [((word,), count) for word, count in singles.items()]
    terms += [(pair, count) for pair, count in pairs.items() if count > 1]
    return sorted(((term, score(term, count), count) for term, count in terms), key=lambda item: (-item[1], item[0]))


def _without_parts(scored: list[tuple[_Term, float, int]], limit: int) -> list[tuple[_Term, float, int]]:
    chosen: list[tuple[_Term, float, int]] = []
    used: set[str] = set()
    for term, score, count in scored:
        if len(chosen) < limit and score > 0 and used.isdisjoint(term):
            chosen.append((term, score, count))
            used.update(term)
    return chosen


def _worth(sentence: str, index: int, weights: Mapping[str, float]) -> float:
    words = [word.lower() for word in words_of(sentence)]
    if not words:
        return 0.0
    content = sum(weights.get(word, 0.0) for word in set(words))
    position = 1 + 1 / (1 + index)
    is_whole = 6 <= len(words) <= 40 and not sentence.endswith(":")  # noqa: PLR2004 - else a fragment or enumeration
    return content / math.sqrt(len(words)) * position * (1.0 if is_whole else 0.4)


def _overlap(left: str, right: str) -> float:
    first, second = ({stem(word) for word in words_of(text) if is_content_word(word)} for text in (left, right))
    return len(first & second) / (min(len(first), len(second)) or 1)
