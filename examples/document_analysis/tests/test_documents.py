from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from document_analysis import documents
from document_analysis.documents import UnreadableError, decode, printable, read_collection, reference_collection


def write(folder: Path, **files: bytes | str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("naïve".encode(), "naïve", "utf-8"),
        (codecs.BOM_UTF8 + b"abc", "abc", "utf-8-sig"),
        ("naïve".encode("utf-16"), "naïve", "utf-16"),
        ("naïve".encode("utf-32"), "naïve", "utf-32"),
        ("naïve “so” €".encode("cp1252"), "naïve “so” €", "cp1252"),
        (b"caf\xe9 \x81", "caf\xe9 \x81", "latin-1"),
        (b"\xff\xfea\x00\x00", "a\ufffd", "utf-16"),
    ],
)
def test_bytes_are_read_with_the_encoding_they_have(data: bytes, text: str, encoding: str) -> None:
    assert decode(data) == (text, encoding)


@pytest.mark.parametrize(
    "data", [b"text " * 100 + b"\x00", b"\x7fELF\x00\x01", b"%PDF-1.7 text", bytes(range(1, 32)) * 10]
)
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="is a binary file"):
        decode(data)


def test_a_folder_is_read_in_order_with_its_subfolders_and_without_what_is_no_document(tmp_path: Path) -> None:
    write(
        tmp_path,
        b="two",
        a="one",
        sub__c="three",
        image=b"\x89PNG\x00",
        empty=" \n",
        **{".hidden": "no", ".git__x": "no"},
    )

    found = read_collection([tmp_path])

    assert [(document.name, document.text) for document in found.documents] == [
        ("a", "one"),
        ("b", "two"),
        ("sub/c", "three"),
    ]
    assert [(file.name, file.reason) for file in found.skipped] == [
        ("empty", "is empty"),
        ("image", "is a binary file"),
    ]


def test_names_of_several_folders_begin_with_the_folder(tmp_path: Path) -> None:
    write(tmp_path, one__a="1", two__a="2")

    found = read_collection([tmp_path / "one", tmp_path / "two"])

    assert [document.name for document in found.documents] == ["one/a", "two/a"]


def test_documents_of_one_name_are_named_by_their_path(tmp_path: Path) -> None:
    write(tmp_path, one__a="1", two__a="2", two__b="3")

    found = read_collection([tmp_path / "one" / "a", tmp_path / "two" / "a", tmp_path / "two" / "b"])

    assert [document.name for document in found.documents] == [str(tmp_path / "one/a"), str(tmp_path / "two/a"), "b"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, a="1")

    found = read_collection([tmp_path / "a", tmp_path, tmp_path / "a"])

    assert len(found.documents) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("photo.png", b"\x89PNG\x00", "photo.png is a binary file"),
        ("empty.txt", b"\n\n", "empty.txt is empty"),
        ("missing.txt", None, "No such file or folder: .*missing.txt"),
    ],
)
def test_a_file_named_itself_must_be_a_document(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(UnreadableError, match=message):
        read_collection([tmp_path / name])


def test_a_folder_without_documents_says_what_it_skipped(tmp_path: Path) -> None:
    write(tmp_path, a=b"\x00", b=b"\x00", c=b"")

    with pytest.raises(
        UnreadableError,
        match=r"No text files in .* \(2 files skipped: is a binary file; 1 file skipped: is empty\)",
    ):
        read_collection([tmp_path])


def test_a_file_that_is_too_large_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 2**20)
    write(tmp_path, big="a" * (2**20 + 1), small="a")

    assert [file.reason for file in read_collection([tmp_path]).skipped] == ["is larger than 1 MiB"]


def test_a_pipe_is_no_document_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UnreadableError, match="pipe is not a regular file"):
        read_collection([tmp_path / "pipe"])


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, sub__a="1")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)

    assert [document.name for document in read_collection([tmp_path]).documents] == ["sub/a"]


def test_a_name_that_is_no_utf_8_can_be_shown() -> None:
    assert printable(os.fsdecode(b"caf\xe9.txt")) == "caf\ufffd.txt"


def test_the_reference_has_a_document_for_each_topic() -> None:
    found = reference_collection()

    assert len(found.documents) > 50
    assert found.skipped == ()
