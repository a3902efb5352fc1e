"""Sentences, words, stems and syllables of English text. Pure."""

from __future__ import annotations

import re
from typing import Final

from document_analysis.vocabulary import ABBREVIATIONS, STOP_WORDS

_SENTENCE_END = re.compile(r"[.!?…]+[\"'\u201d\u2019)\]]*(?=\s)|[\u3002\uff01\uff1f]")
_OPENING: Final = "\"'\u201c\u2018([*"
#: The first character of what follows, opening marks left out.
_FOLLOWING = re.compile(r"\s*[\"'\u201c\u2018(\[*]*(\S)")
_WORD = re.compile(r"[^\W\d]\w*(?:[-'\u2019]\w+)*")
_LONGEST_WORD: Final = 60
_VOWELS = re.compile(r"[aeiouy]+")


def split_sentences(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph; abbreviations, initials and decimal points do not end one."""
    sentences, start = [], 0
    for match in _SENTENCE_END.finditer(paragraph):
        if _ends_sentence(paragraph, match):
            sentences.append(paragraph[start : match.end()].strip())
            start = match.end()
    rest = paragraph[start:].strip()
    return [sentence for sentence in [*sentences, rest] if any(c.isalnum() for c in sentence)]


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` as written, numbers left out."""
    return [match[0] for match in _WORD.finditer(text)]


def without_possessive(word: str) -> str:
    """Return ``word`` without the ending of an English possessive."""
    return re.sub(r"['\u2019]s?$", "", word)


def stem(word: str) -> str:
    """Return a key under which the singular, plural and possessive of an English noun meet."""
    word = without_possessive(word.lower())
    if len(word) <= 3 or word.startswith("_"):  # noqa: PLR2004 - shorter words have no plural ending to lose
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if re.search(r"(?:[sxz]|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^siu]s$", word) else word


def is_content_word(word: str) -> bool:
    """Tell whether ``word`` carries meaning of its own: no stop word, no single letters, no line of letters."""
    plain = word.lower().replace("\u2019", "'")
    return 2 < len(plain.strip("_")) <= _LONGEST_WORD and plain not in STOP_WORDS  # noqa: PLR2004 - "of", loop variables


def count_syllables(word: str) -> int:
    """Estimate the syllables of an English word: groups of vowels, a silent final e left out; at least one."""
    plain = re.sub(r"[^a-z]", "", word.lower())
    silent = plain.endswith("e") and not plain.endswith(("le", "ee"))
    return max(1, len(_VOWELS.findall(plain)) - silent)


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    following = _FOLLOWING.match(text, match.end())
    if following is None or not match[0].startswith("."):
        return True
    word_start = text.rfind(" ", 0, match.start()) + 1
    last_word = text[word_start : match.start()].lstrip(_OPENING).lower()
    is_initial = len(last_word) == 1 and last_word.isalpha()
    if is_initial or last_word in ABBREVIATIONS or match[0].startswith(".."):
        return False
    return not following[1].islower()
