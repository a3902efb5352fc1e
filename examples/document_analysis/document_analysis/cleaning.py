"""From raw text to clean paragraphs: what a person would read, without markup, program code and line breaks. Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from html.parser import HTMLParser
from typing import Final

from typing_extensions import override

from document_analysis.language import is_content_word, words_of

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060\ufeff\u00ad]")
_BLANK_LINES = re.compile(r"\n(?:[ ]*\n)+")
_UNDERLINE = re.compile(r"^([=*\-~^#\"'+.])\1{2,}$")
_MARKDOWN_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$")
_LIST_ITEM = re.compile(r"^(?:[*+\-•]|\(?\d{1,3}[.)])\s+")
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\S\n]*$", re.MULTILINE | re.DOTALL)
_BROKEN_WORD = re.compile(r"(?<=[a-z])-\n[ ]*(?=[a-z])")
_INLINE = (
    (re.compile(r"!?\[([^\[\]\n]{1,300})\]\([^()\s]*\)"), r"\1"),  # [text](link)
    (re.compile(r":[a-z:]{1,40}:`~?([^`]+)`"), r"\1"),  # :role:`text`
    (re.compile(r"``([^`]+)``|`([^`]+)`"), r"\1\2"),
    (re.compile(r"\*\*(\S(?:[^*\n]*\S)?)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*(\S(?:[^*\n]*\S)?)\*(?![\w*])"), r"\1"),
    (re.compile(r"\s?\[\d{1,3}\]_?"), ""),  # footnote marks
)
_HTML = re.compile(r"<(?:!doctype html|html|body|p|div|h[1-6])\b[^>]*>", re.IGNORECASE)
_CODE_MARKS = re.compile(r"::=|>>>|[=(){}\[\]<>_#|\\]")
_LONGEST_TITLE: Final = 100
#: Indentation from which on a block may be program code or a grammar instead of prose.
_CODE_INDENT: Final = 3


class BlockKind(StrEnum):
    """What a block of a document is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a document between blank lines."""

    kind: BlockKind
    text: str


def clean(text: str) -> str:
    """Return ``text`` with one kind of line break and space, composed characters, and nothing invisible."""
    if _HTML.search(text[:2000]):
        text = html_to_text(text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n").expandtabs(4)
    text = unicodedata.normalize("NFC", _CONTROL.sub("", text.replace("\x85", "\n")))
    text = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def split_blocks(text: str) -> list[Block]:
    """Return the headings, paragraphs and code blocks of cleaned text, in order."""
    blocks: list[Block] = []
    for chunk in _BLANK_LINES.split(_FENCE.sub(_indent_fence, text)):
        blocks.extend(_read_chunk(chunk.split("\n")))
    return [block for block in blocks if block.text]


def find_title(blocks: list[Block], fallback: str) -> str:
    """Return the first heading, else a short first paragraph that is no sentence, else ``fallback``."""
    headings = [block.text for block in blocks if block.kind is BlockKind.HEADING]
    if headings:
        return _shorten(headings[0])
    first = next((block.text for block in blocks if block.kind is BlockKind.PARAGRAPH), "")
    is_title = 0 < len(first) <= _LONGEST_TITLE and not first.endswith((".", "!", "?", ":", ";", ","))
    return _shorten(first if is_title else fallback)


def html_to_text(html: str) -> str:
    """Return the readable text of an HTML page, a blank line around each block element."""
    reader = _HtmlText()
    reader.feed(html)
    reader.close()
    return reader.text()


def _read_chunk(lines: list[str]) -> list[Block]:
    """Read the lines between two blank lines: headings may stand on the first of them, without a blank line after."""
    lines = [line for line in lines if line.strip()]
    if not lines:
        return []
    heading = _MARKDOWN_HEADING.match(lines[0])
    if heading:
        return [Block(BlockKind.HEADING, _plain(heading[1])), *_read_chunk(lines[1:])]
    if len(lines) > 1 and _UNDERLINE.match(lines[1].strip()) and not _UNDERLINE.match(lines[0].strip()):
        return [Block(BlockKind.HEADING, _plain(lines[0])), *_read_chunk(lines[2:])]
    if _UNDERLINE.match(lines[0].strip()):
        return _read_chunk(lines[1:])
    return _read_body(lines)


def _read_body(lines: list[str]) -> list[Block]:
    if min(_indent(line) for line in lines) >= _CODE_INDENT and not _reads_like_prose(" ".join(lines)):
        return [Block(BlockKind.CODE, "\n".join(lines))]
    paragraphs: list[list[str]] = []
    for line in lines:
        if not paragraphs or _LIST_ITEM.match(line.strip()):
            paragraphs.append([])
        paragraphs[-1].append(_LIST_ITEM.sub("", line.strip()))
    return [Block(BlockKind.PARAGRAPH, _plain(_join(paragraph))) for paragraph in paragraphs]


def _reads_like_prose(text: str) -> bool:
    """Tell an indented explanation from program code: sentences are full of stop words and poor in brackets."""
    words = words_of(text)
    stop_words = sum(not is_content_word(word) for word in words)
    return len(words) >= 4 and stop_words >= 0.3 * len(words) and len(_CODE_MARKS.findall(text)) <= 0.4 * len(words)  # noqa: PLR2004


def _join(lines: list[str]) -> str:
    return _BROKEN_WORD.sub("", "\n".join(lines)).replace("\n", " ")


def _plain(text: str) -> str:
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _indent_fence(match: re.Match[str]) -> str:
    """Turn a fenced block into an indented one of its own, which is what the rest knows as code."""
    inner = match[0].split("\n")[1:-1]
    return "\n\n" + "\n".join("    " + line for line in inner if line.strip()) + "\n\n"


def _shorten(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1].rstrip() + "…"


class _HtmlText(HTMLParser):
    """Collects text; scripts and styles are left out, block elements stand alone."""

    _HIDDEN: Final = frozenset({"script", "style", "template", "noscript"})
    _INLINE: Final = frozenset(
        {"a", "abbr", "b", "code", "em", "i", "kbd", "mark", "q", "small", "span", "strong", "u"}
    )
    _HEADINGS: Final = frozenset({"title", "h1", "h2", "h3", "h4", "h5", "h6"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._hidden = 0

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in self._HIDDEN
        if tag not in self._INLINE:
            self._parts.append("\n\n# " if tag in self._HEADINGS else "\n\n")

    @override
    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in self._HIDDEN))
        if tag not in self._INLINE:
            self._parts.append("\n\n")

    @override
    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(re.sub(r"\s+", " ", data))

    def text(self) -> str:
        return "\n".join(line.strip() for line in "".join(self._parts).split("\n"))
