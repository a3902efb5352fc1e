"""Where documents come from: files, folders, or the language reference that every CPython carries."""

from __future__ import annotations

import codecs
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: A file that is larger is a data set, not a document; its text fits into the input of a run, however it is escaped.
MAX_DOCUMENT_BYTES: Final = 2 * 2**20

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TEXT_CONTROLS: Final = frozenset(b"\t\n\v\f\r\x1b\x85")
_MOST_CONTROLS: Final = 0.02


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document to analyse."""

    name: str
    text: str
    #: How its bytes were read.
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file of a folder that is no document, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents found, and files left out."""

    origin: str
    documents: tuple[SourceDocument, ...]
    skipped: tuple[Skipped, ...] = ()


class UnreadableError(Exception):
    """There is nothing to analyse, or no place to write; the message is for people."""


class _NotADocumentError(Exception):
    """A file is no document; the message is the reason."""


def reference_collection() -> Collection:
    """Return the topics of Python's own language reference, which ``help()`` reads too."""
    from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte that only this function needs

    documents = tuple(SourceDocument(name, text) for name, text in sorted(topics.items()))
    return Collection("the language reference of this Python", documents)


def read_collection(paths: Sequence[Path]) -> Collection:
    """Read files, and folders with all that is below them.

    A folder's hidden, binary, empty and oversized files are left out and listed as skipped; the same file is an error
    where it is named itself.

    Raises:
        UnreadableError: A path does not exist, a file named is no text, or a folder holds no text file.
    """
    documents: dict[Path, SourceDocument] = {}
    skipped: list[Skipped] = []
    for path in paths:
        if path.is_dir():
            found, left_out = _read_folder(path, label=len(paths) > 1)
            documents.update({key: document for key, document in found.items() if key not in documents})
            skipped += left_out
        else:
            documents.setdefault(path.resolve(), _read_named_file(path))
    return Collection(", ".join(map(printable, paths)), _with_unique_names(documents), tuple(skipped))


def _with_unique_names(documents: Mapping[Path, SourceDocument]) -> tuple[SourceDocument, ...]:
    """Name documents that share a name by their whole path."""
    counts = Counter(document.name for document in documents.values())
    return tuple(
        document if counts[document.name] == 1 else replace(document, name=printable(path))
        for path, document in documents.items()
    )


def decode(data: bytes) -> tuple[str, str]:
    """Return the text of a file's bytes and the encoding they were read with.

    A byte order mark decides; else UTF-8, else Windows-1252, which gives any other text with single bytes a form.

    Raises:
        ValueError: The bytes are no text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding
    if _is_binary(data):
        raise ValueError("is a binary file")
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1"), "latin-1"


def _read_folder(folder: Path, *, label: bool) -> tuple[dict[Path, SourceDocument], list[Skipped]]:
    documents: dict[Path, SourceDocument] = {}
    skipped: list[Skipped] = []
    for path in _walk(folder):
        name = printable(path.relative_to(folder.parent if label else folder))
        try:
            documents[path.resolve()] = _read_file(path, name)
        except _NotADocumentError as error:
            skipped.append(Skipped(name, str(error)))
    if not documents:
        raise UnreadableError(f"No text files in {folder}" + _describe_skipped(skipped))
    return documents, skipped


def _read_named_file(path: Path) -> SourceDocument:
    if not path.exists():
        raise UnreadableError(f"No such file or folder: {printable(path)}")
    try:
        return _read_file(path, printable(path.name))
    except _NotADocumentError as error:
        raise UnreadableError(f"{printable(path)} {error}") from None


def _read_file(path: Path, name: str) -> SourceDocument:
    try:
        if not path.is_file():
            raise _NotADocumentError("is not a regular file")
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise _NotADocumentError(f"is larger than {MAX_DOCUMENT_BYTES // 2**20} MiB")
        text, encoding = decode(path.read_bytes())
    except OSError as error:
        raise _NotADocumentError(f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise _NotADocumentError(str(error)) from None
    if not text.strip():
        raise _NotADocumentError("is empty")
    return SourceDocument(name, text, encoding)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in order of their names; hidden ones and linked folders are left out."""
    for directory, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(directory, name) for name in sorted(files) if not name.startswith("."))


def _is_binary(data: bytes) -> bool:
    if b"\0" in data or data.startswith(b"%PDF-"):
        return True
    controls = sum(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in data[:65536])  # noqa: PLR2004 - space
    return controls > _MOST_CONTROLS * len(data[:65536])


def _describe_skipped(skipped: Iterable[Skipped]) -> str:
    reasons: dict[str, int] = {}
    for file in skipped:
        reasons[file.reason] = reasons.get(file.reason, 0) + 1
    parts = [f"{count} {'file' if count == 1 else 'files'} skipped: {reason}" for reason, count in reasons.items()]
    return f" ({'; '.join(parts)})" if parts else ""


def printable(path: Path | str) -> str:
    """Return a path as text that any terminal and database takes, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", errors="replace")
